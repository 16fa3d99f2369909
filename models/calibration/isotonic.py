"""Smoothed isotonic regression: bins of equal information, pooled until they rise, joined by lines.

Shapes: F filled bins of the grid, G groups of them, J knots.
"""

from __future__ import annotations

import numpy as np

from models.calibration.bins import Bins, expit, logit
from models.calibration.curve import Curve
from models.metrics.rows import Array

#: At most so many groups, each with about so many events (the fewer of positives and negatives) or more.
GROUPS, EVENTS = 40, 100
#: Share of the raw logit that is added to the fitted one: where the fit is all but flat, scores stay apart.
_RISE = 1e-3
#: Logits at which the lines outside bend, so that they follow a shift of the logit.
_OUTSIDE = np.array([0.5, 1, 2, 4, 8])


def isotonic(bins: Bins) -> Curve:
    """The rising curve nearest to the observed rates, smooth between them.

    Bins are joined to groups of equal Fisher information of the logit, ``sum rows p (1 - p)`` with the
    predicted p: equal positives where these are rare, equal rows where p is about 1/2, and never cut by the
    labels. The rate of a group counts half a positive and half a negative more (Jeffreys), so that it is
    neither 0 nor 1. Groups are pooled until their rates rise; the mean prediction and the rate of each are a
    knot of the curve, which is then centred.

    Source: Barlow et al., Statistical Inference under Order Restrictions, 1972, for the pooling; Zadrozny and
    Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002, for its
    use; joined by lines as in Deng et al., Calibrating User Response Predictions in Online Advertising,
    ECML PKDD 2020 (smoothed isotonic regression), of which only descriptions were read.

    Args:
        bins: at least one row.
    """
    rows_F, positives_F, p_F = bins.filled()
    events = min(positives_F.sum(), rows_F.sum() - positives_F.sum())
    groups = int(np.clip(events // EVENTS, 1, GROUPS))
    information_F = rows_F * p_F * (1 - p_F)
    middle_F = np.cumsum(information_F) - information_F / 2
    place_F = np.minimum((groups * middle_F / information_F.sum()).astype(np.int64), groups - 1)
    start_G = np.append(0, np.flatnonzero(np.diff(place_F)) + 1)
    rows_G = np.add.reduceat(rows_F, start_G)
    rate_G = (np.add.reduceat(positives_F, start_G) + 0.5) / (rows_G + 1)
    pool_G = pools(rate_G, rows_G + 1)
    start_J = np.append(0, np.flatnonzero(np.diff(pool_G)) + 1)
    weight_J = np.add.reduceat(rows_G + 1, start_J)
    rate_J = np.add.reduceat(rate_G * (rows_G + 1), start_J) / weight_J
    predicted_G = np.add.reduceat(rows_F * p_F, start_G)
    raw_J = logit(np.add.reduceat(predicted_G, start_J) / np.add.reduceat(rows_G, start_J))
    rising_J = logit(rate_J) + _RISE * (raw_J - np.average(raw_J, weights=weight_J))
    return Curve("isotonic", expit(_extended(raw_J)), expit(_extended(rising_J))).centred(bins)


def _extended(z_J: Array) -> Array:
    """With further knots outside: beyond what was seen, odds change as they do at the nearest group."""
    return np.concatenate([z_J[0] - _OUTSIDE[::-1], z_J, z_J[-1] + _OUTSIDE])


def pools(value_G: Array, weight_G: Array) -> Array:
    """Which pool each value falls into, of shape (G,): means of consecutive pools strictly rise.

    Pool adjacent violators: the means are the rising sequence with the least weighted squared error.

    Args:
        value_G: in their order.
        weight_G: above 0.

    >>> import numpy as np
    >>> pools(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4))
    array([0, 1, 1, 2])
    """
    found: list[tuple[float, float, int]] = []  # sum, weight and size of each pool so far
    for value, weight in zip(value_G.tolist(), weight_G.tolist(), strict=True):
        found.append((value * weight, weight, 1))
        while len(found) > 1 and found[-2][0] / found[-2][1] >= found[-1][0] / found[-1][1]:
            last, before = found.pop(), found.pop()
            found.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    return np.repeat(np.arange(len(found)), [size for _, _, size in found])
