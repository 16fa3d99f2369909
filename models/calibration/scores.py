"""From the scores of rows to their calibrated twins, consistent along the funnel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from features.funnel import Funnel
from models.calibration.curve import Curve


def calibrated(
    funnel: Funnel, curves: Mapping[str, Curve], scores: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Calibrated probabilities by the calibrated name of their score column, float32.

    Every column has a curve of its own: the joint probability is not the product of the calibrated steps, and
    is held to that of its parent where it would exceed it.

    Args:
        funnel: the objectives.
        curves: by name of the score column.
        scores: by name of the score column, of any one shape.
    """
    columns = funnel.probabilities
    found = {column.calibrated: curves[column.name].apply(scores[column.name]) for column in columns}
    joint = {column.objective: column.calibrated for column in columns if column.joint}
    for objective in funnel.binary:  # parents first
        if objective.given is not None:
            below, above = found[joint[objective.name]], found[joint[objective.given]]
            np.minimum(below, above, out=below)
    return found
