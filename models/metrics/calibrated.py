"""How well scores are calibrated, before and after: PCOC by tenth of the scores, log loss, ECE; B rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from features.funnel import Funnel
from models.metrics.calibration import ece
from models.metrics.evaluation import Metric
from models.metrics.rows import Array, Vector
from models.metrics.spaces import Space, spaces
from models.metrics.totals import LabelTotals, pcoc

TENTHS = 10


def after_calibration(
    funnel: Funnel, y_BK: Vector, valid_BK: Vector, calibrated: Mapping[str, Vector]
) -> list[Metric]:
    """``pcoc_cal``, ``log_loss_cal`` and ``ece_cal`` of every probability, each in its own space.

    Order does not change, so a metric of ranking has no twin.

    Args:
        funnel: the objectives.
        y_BK: as of ``evaluate``.
        valid_BK: as of ``evaluate``.
        calibrated: by the calibrated name of the score column.
    """
    found: list[Metric] = []
    for space in _own(funnel, y_BK, valid_BK):
        y_N = np.asarray(y_BK)[space.inside_B, space.place]
        p_N = np.asarray(calibrated[space.column.calibrated])[space.inside_B]
        totals = LabelTotals.of(y_N, p_N)
        values = {"pcoc_cal": totals.pcoc(), "log_loss_cal": totals.log_loss(), "ece_cal": ece(y_N, p_N)}
        found += [_metric(space, y_N, name, value) for name, value in values.items()]
    return found


def by_tenth(
    funnel: Funnel,
    y_BK: Vector,
    valid_BK: Vector,
    probabilities: Mapping[str, Vector],
    calibrated: Mapping[str, Vector] | None,
) -> Iterator[tuple[str, Metric]]:
    """``pcoc``, and ``pcoc_cal`` where there is a calibration, by tenth of the rows by rising raw score.

    The tenths of a space differ by one row at most; equal scores are cut in the order of their rows.

    Args:
        funnel: the objectives.
        y_BK: as of ``evaluate``.
        valid_BK: as of ``evaluate``.
        probabilities: as of ``evaluate``.
        calibrated: as of ``after_calibration``; ``None`` if nothing was calibrated.

    Returns:
        Slice and metric; ``decile_1`` has the lowest scores.
    """
    for space in _own(funnel, y_BK, valid_BK):
        y_N = np.asarray(y_BK)[space.inside_B, space.place]
        raw_N = np.asarray(probabilities[space.column.name])[space.inside_B]
        measured = {"pcoc": raw_N}
        if calibrated is not None:
            measured["pcoc_cal"] = np.asarray(calibrated[space.column.calibrated])[space.inside_B]
        for tenth, rows in enumerate(np.array_split(np.argsort(raw_N, kind="stable"), TENTHS), start=1):
            for name, p_N in measured.items():
                value = pcoc(y_N[rows], p_N[rows])
                yield f"decile_{tenth}", _metric(space, y_N[rows], name, value)


def _own(funnel: Funnel, y_BK: Vector, valid_BK: Vector) -> Iterator[Space]:
    """Spaces of probabilities; of expected values nothing is calibrated."""
    return (s for s in spaces(funnel, y_BK, valid_BK) if s.own and s.column.kind == "binary")


def _metric(space: Space, y_N: Array, name: str, value: float | None) -> Metric:
    positives = int(np.count_nonzero(y_N))
    return Metric(space.objective.name, space.name, name, value, len(y_N), positives)
