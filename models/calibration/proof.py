"""How well a curve describes a later day: log loss on its bins; F filled bins of the grid."""

from __future__ import annotations

import numpy as np

from models.calibration.bins import Bins
from models.calibration.curve import Curve


def loss_after(curve: Curve, later: Bins) -> float:
    """Sum of the cross-entropy of calibrated predictions, nats, as if all rows of a bin had its mean one.

    Args:
        curve: fitted to earlier days.
        later: what was predicted afterwards and what then happened.
    """
    rows_F, positives_F, p_F = later.filled()
    q_F = curve.exact(p_F).clip(1e-9, 1 - 1e-9)
    return -float(positives_F @ np.log(q_F) + (rows_F - positives_F) @ np.log1p(-q_F))
