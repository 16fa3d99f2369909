"""Platt scaling: two numbers, where positives are too few for a curve; F filled bins, J knots."""

from __future__ import annotations

import numpy as np

from models.calibration.bins import PER_LOGIT, REACH, Bins, expit, logit
from models.calibration.curve import Curve
from models.metrics.rows import Array

#: How far from 1 a slope usually lies (standard deviation), and the least that it may be.
SPREAD, LEAST = 0.5, 0.05
#: Logits further out than this are all but 0 or 1, and knots there could not be told apart.
_DISTINCT = 20
_STEPS = 100
_ENOUGH = 1e-10


def platt(bins: Bins) -> Curve:
    """``sigmoid(intercept + slope * logit p)``, with a knot every 1/8 logit where there are rows.

    Between the knots it is a line, within 0.1 % of the sigmoid. Source: J. Platt, Probabilistic Outputs for
    Support Vector Machines, 1999, of the logit in place of a margin.

    Args:
        bins: at least one row.
    """
    intercept, slope = parameters(bins)
    used_M = np.flatnonzero(bins.rows_M)
    edge_J = np.arange(used_M[0] - 1, used_M[-1] + 3, 2) / PER_LOGIT - REACH
    fitted_J = intercept + slope * edge_J
    apart_J = np.abs(fitted_J) < _DISTINCT
    return Curve("platt", expit(edge_J[apart_J]), expit(fitted_J[apart_J])).centred(bins)


def parameters(bins: Bins) -> tuple[float, float]:
    """Intercept and slope with the greatest posterior density, by Newton's method on the bins' sums.

    The slope has a normal prior around 1: few positives do not turn the scores, and separated labels have a
    finite fit. The intercept has none, so predicted and observed positives are equal. A slope below
    ``LEAST`` is held there, and the intercept fitted to it: scores keep their order even where they are no
    better than chance.

    Args:
        bins: at least one positive and one negative.
    """
    rows_F, positives_F, p_F = bins.filled()
    z_F = logit(p_F)
    base = float(logit(positives_F.sum() / rows_F.sum()))
    found = _newton(np.array([base - (rows_F @ z_F) / rows_F.sum(), 1.0]), rows_F, positives_F, z_F, 1)
    if found[1] < LEAST:
        found = _newton(np.array([base, LEAST]), rows_F, positives_F, z_F, 0)
    return float(found[0]), float(found[1])


def _newton(start: Array, rows_F: Array, positives_F: Array, z_F: Array, moves: int) -> Array:
    """Minimise the negative log posterior from ``start``; ``moves`` is 1 if the slope is free, else 0."""
    at, free = start, slice(0, 1 + moves)
    design = np.stack([np.ones_like(z_F), z_F])
    prior = np.array([0.0, SPREAD**-2])
    for _ in range(_STEPS):
        p_F = expit(at @ design)
        gradient = design @ (rows_F * p_F - positives_F) + prior * (at - 1)
        if np.abs(gradient[free]).max() <= _ENOUGH * rows_F.sum():
            break
        curvature = (design * (rows_F * p_F * (1 - p_F))) @ design.T + np.diag(prior)
        step = np.zeros(2)
        step[free] = np.linalg.solve(curvature[free, free], gradient[free])
        # convex, so a short enough step always goes down
        size, before = 1.0, loss(at, rows_F, positives_F, z_F)
        while size > _ENOUGH and loss(at - size * step, rows_F, positives_F, z_F) > before:
            size /= 2
        at = at - size * step
    return at


def loss(at: Array, rows_F: Array, positives_F: Array, z_F: Array) -> float:
    """Negative logarithm of the posterior density, without constants.

    Args:
        at: intercept and slope.
        rows_F: rows of each bin.
        positives_F: positives of each bin.
        z_F: logit of each bin's mean prediction.
    """
    fitted_F = at[0] + at[1] * z_F
    entropy = rows_F @ np.logaddexp(0, fitted_F) - positives_F @ fitted_F
    return float(entropy + (at[1] - 1) ** 2 / (2 * SPREAD**2))
