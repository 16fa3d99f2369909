"""Ranking and calibration metrics as pure functions; undefined is ``None``, never a made-up number.

Shapes: N rows of a space, T runs of tied scores, G groups with both classes, B rows, K objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from features.funnel import Funnel

_Array = np.ndarray[Any, Any]
Vector = _Array | Tensor
"""One number per row, as a NumPy array or a torch tensor on the CPU."""


def auc(y: Vector, p: Vector) -> float | None:
    """Chance that a positive is scored above a negative, ties counting half; ``None`` with one class.

    Exact: pairs are counted as integers, nothing is binned.

    >>> import numpy as np
    >>> auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    1.0
    """
    values_G, _ = _auc_by_group(y, p, np.zeros(len(y), dtype=np.int64))
    return float(values_G[0]) if len(values_G) else None


def gauc(y: Vector, p: Vector, group: Vector, weighted: bool = True) -> float | None:
    """Mean AUC within groups, usually users; ``None`` if no group has both classes.

    Groups with one class are left out. Source: Zhou et al., Deep Interest Network, KDD 2018, equation 7.

    Args:
        y: labels.
        p: scores.
        group: what each row belongs to.
        weighted: groups count by their number of rows if true, equally otherwise.
    """
    values_G, rows_G = _auc_by_group(y, p, group)
    return float(np.average(values_G, weights=rows_G if weighted else None)) if len(values_G) else None


def log_loss(y: Vector, p: Vector) -> float | None:
    """Mean cross-entropy in nats; ``None`` without rows.

    Computed in float64 with ``p`` held 1e-7 away from 0 and 1, about the spacing of float32 below 1: a
    certain and wrong prediction costs 16 nats, not infinity.
    """
    y_N, p_N = np.asarray(y, dtype=np.float64), np.clip(np.asarray(p, dtype=np.float64), 1e-7, 1 - 1e-7)
    if not len(y_N):
        return None
    return float(-(y_N * np.log(p_N) + (1 - y_N) * np.log1p(-p_N)).mean())


def normalized_entropy(y: Vector, p: Vector) -> float | None:
    """Log loss over that of always predicting the base rate; below 1 beats it. ``None`` with one class.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, equation 3.
    """
    loss, rate = log_loss(y, p), float(np.asarray(y, dtype=np.float64).mean()) if len(y) else 0.0
    if loss is None or not 0 < rate < 1:
        return None
    return float(loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def pcoc(y: Vector, p: Vector) -> float | None:
    """Predicted over observed positives; 1 is calibrated, above 1 over-predicts. ``None`` without positives.

    Of values, the sum of the predicted over that of the observed; ``None`` if the observed add up to 0.

    >>> import numpy as np
    >>> pcoc(np.array([1.0, 0.0]), np.array([0.75, 0.75]))
    1.5
    """
    observed = float(np.asarray(y, dtype=np.float64).sum())
    return float(np.asarray(p, dtype=np.float64).sum() / observed) if observed else None


def rmse(y: Vector, value: Vector) -> float | None:
    """Root of the mean squared error, in the unit of the value; ``None`` without rows.

    >>> import numpy as np
    >>> rmse(np.array([0.0, 2.0]), np.array([3.0, 6.0]))
    3.5355339059327378
    """
    error_N = np.asarray(value, dtype=np.float64) - np.asarray(y, dtype=np.float64)
    return float(np.sqrt(np.square(error_N).mean())) if len(error_N) else None


def mae(y: Vector, value: Vector) -> float | None:
    """Mean absolute error, in the unit of the value; ``None`` without rows.

    >>> import numpy as np
    >>> mae(np.array([0.0, 2.0]), np.array([3.0, 6.0]))
    3.5
    """
    error_N = np.asarray(value, dtype=np.float64) - np.asarray(y, dtype=np.float64)
    return float(np.abs(error_N).mean()) if len(error_N) else None


def _auc_by_group(y: Vector, p: Vector, group: Vector) -> tuple[_Array, _Array]:
    """AUC and number of rows of every group that has both classes, each of shape (G,)."""
    p_N = np.asarray(p)
    if not np.isfinite(p_N).all():
        raise ValueError("Scores to be ranked must be finite.")
    if not len(p_N):
        return np.empty(0), np.empty(0, dtype=np.int64)
    _, group_N = np.unique(np.asarray(group), return_inverse=True)
    order_N = np.lexsort((p_N, group_N))
    y_N, p_N, group_N = (np.asarray(y)[order_N] != 0).astype(np.int64), p_N[order_N], group_N[order_N]

    new_group_N = np.diff(group_N, prepend=-1) != 0
    tie_T = np.flatnonzero(new_group_N | (np.diff(p_N, prepend=p_N[0]) != 0))
    group_G = np.flatnonzero(new_group_N[tie_T])
    positives_T = np.add.reduceat(y_N, tie_T)
    negatives_T = np.diff(tie_T, append=len(y_N)) - positives_T
    below_T = np.cumsum(negatives_T) - negatives_T
    below_T -= np.repeat(below_T[group_G], np.diff(group_G, append=len(tie_T)))

    # twice the pairs won, so that a tie is the whole number 1
    won_G = np.add.reduceat(positives_T * (2 * below_T + negatives_T), group_G)
    positives_G, negatives_G = np.add.reduceat(positives_T, group_G), np.add.reduceat(negatives_T, group_G)
    both_G = (positives_G > 0) & (negatives_G > 0)
    value_G = won_G[both_G] / (2 * positives_G[both_G] * negatives_G[both_G])
    return value_G, (positives_G + negatives_G)[both_G]


@dataclass(frozen=True)
class Metric:
    """One number with what it was measured on.

    Attributes:
        objective: name of the objective.
        space: ``impressions`` (joint probability or value per impression, all impressions),
            ``given_<parent>`` (conditional probability or value, rows whose parent happened) or
            ``conditional_over_impressions`` (conditional probability against the joint label, all
            impressions; no value is measured there).
        name: ``auc``, ``gauc`` (groups are users, weighted by rows), ``gauc_unweighted``, ``log_loss``,
            ``normalized_entropy`` or ``pcoc``; of a value ``rmse``, ``mae`` or ``pcoc``.
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

    "CVR AUC" means three things in the literature: over clicked rows, over all impressions with the
    conditional probability, and over all impressions with the joint one. All three are here, by name,
    each with its row count.

    Args:
        funnel: the objectives.
        y_BK: joint labels, 0 or 1, and values in their unit; anything where they are not valid.
        valid_BK: labels that may be evaluated.
        probabilities: the score columns of the funnel, as ``models.score.probabilities`` returns them.
        user: group of each row for ``gauc``.
    """
    y_BK, valid_BK, user_B = np.asarray(y_BK), np.asarray(valid_BK, dtype=np.bool_), np.asarray(user)
    column = {(c.objective, c.joint): np.asarray(probabilities[c.name]) for c in funnel.score_columns}
    metrics: list[Metric] = []
    for k, objective in enumerate(funnel):
        valid_B = valid_BK[:, k]
        spaces = [("impressions", column[objective.name, True], valid_B)]
        parent = funnel.parent_index(objective)
        if parent is not None:
            p_B = column[objective.name, False]
            spaces.append((f"given_{objective.given}", p_B, valid_B & (y_BK[:, parent] == 1)))
            if objective.kind == "binary":
                spaces.append(("conditional_over_impressions", p_B, valid_B))
        for space, p_B, inside_B in spaces:
            y_N, p_N, user_N = y_BK[inside_B, k], p_B[inside_B], user_B[inside_B]
            values = _of_values(y_N, p_N) if objective.kind == "value" else _of_labels(y_N, p_N, user_N)
            rows, positives = len(y_N), int(np.count_nonzero(y_N))
            metrics += [
                Metric(objective.name, space, name, value, rows, positives) for name, value in values.items()
            ]
    return metrics


def _of_labels(y_N: _Array, p_N: _Array, user_N: _Array) -> dict[str, float | None]:
    return {
        "auc": auc(y_N, p_N),
        "gauc": gauc(y_N, p_N, user_N),
        "gauc_unweighted": gauc(y_N, p_N, user_N, weighted=False),
        "log_loss": log_loss(y_N, p_N),
        "normalized_entropy": normalized_entropy(y_N, p_N),
        "pcoc": pcoc(y_N, p_N),
    }


def _of_values(y_N: _Array, value_N: _Array) -> dict[str, float | None]:
    return {"rmse": rmse(y_N, value_N), "mae": mae(y_N, value_N), "pcoc": pcoc(y_N, value_N)}
