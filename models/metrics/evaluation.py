"""Every metric of every objective of a funnel, in every space; B rows, K objectives, N rows of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.funnel import Funnel
from models.metrics.grouped import GroupTotals
from models.metrics.ranking import Ranking
from models.metrics.rows import Array, Vector
from models.metrics.runs import Runs
from models.metrics.spaces import spaces
from models.metrics.totals import LabelTotals, ValueTotals


@dataclass(frozen=True)
class Metric:
    """One number with what it was measured on.

    Attributes:
        objective: name of the objective.
        space: ``impressions`` (joint probability or value per impression, all impressions),
            ``given_<parent>`` (conditional probability or value, rows whose parent happened) or
            ``conditional_over_impressions`` (conditional probability against the joint label, all
            impressions; no value is measured there).
        name: ``auc``, ``gauc`` (groups are users, weighted by rows), ``gauc_unweighted``, ``ks``,
            ``log_loss``, ``normalized_entropy``, ``pcoc`` or ``ece`` (15 bins of equal mass); of a value
            ``rmse``, ``mae`` or ``pcoc``.
        value: ``None`` where the metric is undefined.
        rows: rows of the space with a valid label.
        positives: positive labels among them; of a value, rows where it is not 0.
    """

    objective: str
    space: str
    name: str
    value: float | None
    rows: int
    positives: int


def evaluate(
    funnel: Funnel,
    y_BK: Vector,
    valid_BK: Vector,
    probabilities: Mapping[str, Vector],
    user: Vector,
) -> list[Metric]:
    """Every metric of every objective in every space.

    "CVR AUC" means three things in the literature. All three are here by the name of their space, each with
    its row count: pCVR on clicks is ``given_<parent>``, pCVR over impressions is
    ``conditional_over_impressions``, pCTCVR over impressions is ``impressions``; see ``conversion_auc``.

    Args:
        funnel: the objectives.
        y_BK: joint labels, 0 or 1, and values in their unit; anything where they are not valid.
        valid_BK: labels that may be evaluated.
        probabilities: the score columns of the funnel, as ``models.score.probabilities`` returns them.
        user: group of each row for ``gauc``.
    """
    y_BK, user_B = np.asarray(y_BK), np.asarray(user)
    metrics: list[Metric] = []
    for space in spaces(funnel, y_BK, valid_BK):
        p_B, inside_B = np.asarray(probabilities[space.column.name]), space.inside_B
        y_N, p_N, user_N = y_BK[inside_B, space.place], p_B[inside_B], user_B[inside_B]
        value = space.objective.kind == "value"
        values = _of_values(y_N, p_N) if value else _of_labels(y_N, p_N, user_N)
        rows, positives = len(y_N), int(np.count_nonzero(y_N))
        metrics += [
            Metric(space.objective.name, space.name, name, number, rows, positives)
            for name, number in values.items()
        ]
    return metrics


def _of_labels(y_N: Array, p_N: Array, user_N: Array) -> dict[str, float | None]:
    # what several metrics share is sorted or summed once
    ranking, users, totals = Ranking(), GroupTotals.of(Runs.of(y_N, p_N, user_N)), LabelTotals.of(y_N, p_N)
    ranking.add(y_N, p_N)
    return {
        "auc": ranking.auc(),
        "gauc": users.gauc(),
        "gauc_unweighted": users.gauc(weighted=False),
        "ks": ranking.ks(),
        "log_loss": totals.log_loss(),
        "normalized_entropy": totals.normalized_entropy(),
        "pcoc": totals.pcoc(),
        "ece": ranking.ece(),
    }


def _of_values(y_N: Array, value_N: Array) -> dict[str, float | None]:
    totals = ValueTotals.of(y_N, value_N)
    return {"rmse": totals.rmse(), "mae": totals.mae(), "pcoc": totals.pcoc()}
