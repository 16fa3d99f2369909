"""Whether a curve would have harmed a later day: paired difference of the log loss; F filled bins."""

from __future__ import annotations

import numpy as np

from models.calibration.bins import Bins
from models.calibration.curve import Curve

#: Standard errors of the paired difference above which harm is no accident: one day in 40 without any harm.
CLEARLY = 2.0


def harm(curve: Curve, later: Bins) -> float:
    """How much more log loss the later rows have with the curve than without, in standard errors.

    The difference of a row is ``log p - log q`` if its label is 1, else ``log(1 - p) - log(1 - q)``, with q
    the calibrated p. Positive is harm; 0 without rows or where nothing changes.

    Args:
        curve: fitted to earlier days.
        later: what was predicted afterwards and what then happened.
    """
    rows_F, positives_F, p_F = later.filled()
    q_F = curve.exact(p_F).clip(1e-9, 1 - 1e-9)
    hit_F, miss_F = np.log(p_F) - np.log(q_F), np.log1p(-p_F) - np.log1p(-q_F)
    negatives_F, rows = rows_F - positives_F, rows_F.sum()
    total = positives_F @ hit_F + negatives_F @ miss_F
    squares = positives_F @ hit_F**2 + negatives_F @ miss_F**2
    spread = squares - total**2 / max(rows, 1)
    return float(total / np.sqrt(spread)) if spread > 0 else 0.0
