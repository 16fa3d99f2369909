"""What a day leaves behind of its predictions: rows, positives and predicted sum by bin; N rows, M bins.

The bins are the same for every objective, day and line, so that days add up: 16 to a unit of the logit, from
-16 to 16. In one bin the odds differ by 6 %; what lies further out is in the first or the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from models.metrics.rows import Array, Vector, probable

#: Bins per unit of the logit, and how far from 0 they go.
PER_LOGIT, REACH = 16, 16
COUNT = 2 * REACH * PER_LOGIT


@dataclass(frozen=True)
class Bins:
    """Sums by bin; those of two days add up to those of both.

    Attributes:
        rows_M: rows, int64, of shape (512,) as all that follows.
        positives_M: positive labels among them, int64.
        predicted_M: sum of their predicted probabilities, float64.
    """

    rows_M: Array
    positives_M: Array
    predicted_M: Array

    @staticmethod
    def empty() -> Bins:
        """No row yet."""
        none_M = np.zeros(COUNT, dtype=np.int64)
        return Bins(none_M, none_M, np.zeros(COUNT))

    @staticmethod
    def of(y: Vector, p: Vector) -> Bins:
        """Count rows.

        Raises:
            ValueError: a label that is neither 0 nor 1, a probability outside 0 to 1, unlike lengths.
        """
        y_N, p_N = probable(y, p)
        place_N = np.floor(logit(p_N) * PER_LOGIT) + COUNT // 2
        bin_N = place_N.clip(0, COUNT - 1).astype(np.int64)
        return Bins(
            np.bincount(bin_N, minlength=COUNT),
            np.bincount(bin_N[y_N == 1], minlength=COUNT),
            # of no rows, the sum would be of integers
            np.bincount(bin_N, weights=p_N, minlength=COUNT).astype(np.float64),
        )

    @staticmethod
    def total(parts: Iterable[Bins]) -> Bins:
        """Sums of all parts."""
        return reduce(Bins.merged, parts, Bins.empty())

    def merged(self, other: Bins) -> Bins:
        """Sums of both."""
        return Bins(
            self.rows_M + other.rows_M,
            self.positives_M + other.positives_M,
            self.predicted_M + other.predicted_M,
        )

    @property
    def rows(self) -> int:
        """All rows."""
        return int(self.rows_M.sum())

    @property
    def positives(self) -> int:
        """All positives."""
        return int(self.positives_M.sum())

    def filled(self) -> tuple[Array, Array, Array]:
        """Rows, positives and mean prediction of the bins that have a row, as float64, by rising prediction.

        A mean of exactly 0 or 1 is moved inwards by 1e-9, so that it has a logit.
        """
        has_M = self.rows_M > 0
        rows_F, positives_F = (
            self.rows_M[has_M].astype(np.float64),
            self.positives_M[has_M].astype(np.float64),
        )
        return rows_F, positives_F, (self.predicted_M[has_M] / rows_F).clip(1e-9, 1 - 1e-9)


def logit(p: Array) -> Array:
    """Natural logarithm of the odds, in float64; infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-np.asarray(p, dtype=np.float64)))


def expit(z: Array) -> Array:
    """The inverse of ``logit``."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-z)))
