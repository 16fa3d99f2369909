"""Metrics that are sums over rows: of labels log loss, NE and PCOC, of values RMSE, MAE and PCOC; N rows.

The streaming forms remember these sums in float64: batches and their order move a result by about 1e-16 of
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.metrics.rows import Vector, pairs, probable


def log_loss(y: Vector, p: Vector) -> float | None:
    """Mean cross-entropy in nats; ``None`` without rows.

    Computed in float64 with ``p`` held 1e-7 away from 0 and 1, about the spacing of float32 below 1: a
    certain and wrong prediction costs 16 nats, not infinity.
    """
    return LabelTotals.of(y, p).log_loss()


def normalized_entropy(y: Vector, p: Vector) -> float | None:
    """Log loss over that of always predicting the base rate; below 1 beats it. ``None`` with one class.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, equation 3.
    """
    return LabelTotals.of(y, p).normalized_entropy()


def pcoc(y: Vector, p: Vector) -> float | None:
    """Predicted over observed positives; 1 is calibrated, above 1 over-predicts. ``None`` without positives.

    Of values, the sum of the predicted over that of the observed; ``None`` if the observed add up to 0.

    >>> import numpy as np
    >>> pcoc(np.array([1.0, 0.0]), np.array([0.75, 0.75]))
    1.5
    """
    return ValueTotals.of(y, p).pcoc()


def rmse(y: Vector, value: Vector) -> float | None:
    """Root of the mean squared error, in the unit of the value; ``None`` without rows.

    >>> import numpy as np
    >>> rmse(np.array([0.0, 2.0]), np.array([3.0, 6.0]))
    3.5355339059327378
    """
    return ValueTotals.of(y, value).rmse()


def mae(y: Vector, value: Vector) -> float | None:
    """Mean absolute error, in the unit of the value; ``None`` without rows.

    >>> import numpy as np
    >>> mae(np.array([0.0, 2.0]), np.array([3.0, 6.0]))
    3.5
    """
    return ValueTotals.of(y, value).mae()


@dataclass(frozen=True)
class LabelTotals:
    """Sums over rows with a label; those of two parts add up to those of the whole.

    Attributes:
        rows: how many.
        positives: of them.
        predicted: sum of the probabilities.
        loss: sum of the cross-entropy, nats.

    >>> import numpy as np
    >>> day = LabelTotals()
    >>> for y, p in ((np.array([1]), np.array([0.75])), (np.array([0]), np.array([0.75]))):
    ...     day = day.merged(LabelTotals.of(y, p))
    >>> day.pcoc()
    1.5
    """

    rows: int = 0
    positives: int = 0
    predicted: float = 0.0
    loss: float = 0.0

    @staticmethod
    def of(y: Vector, p: Vector) -> LabelTotals:
        """Sums of one batch.

        Raises:
            ValueError: a label that is neither 0 nor 1, a probability outside 0 to 1, unlike lengths.
        """
        y_N, p_N = probable(y, p)
        held_N = np.clip(p_N, 1e-7, 1 - 1e-7)
        loss_N = np.where(y_N == 1, np.log(held_N), np.log1p(-held_N))
        return LabelTotals(len(y_N), int(y_N.sum()), float(p_N.sum()), -float(loss_N.sum()))

    def merged(self, other: LabelTotals) -> LabelTotals:
        """Sums of both."""
        return LabelTotals(
            self.rows + other.rows,
            self.positives + other.positives,
            self.predicted + other.predicted,
            self.loss + other.loss,
        )

    def log_loss(self) -> float | None:
        """As ``log_loss``."""
        return self.loss / self.rows if self.rows else None

    def normalized_entropy(self) -> float | None:
        """As ``normalized_entropy``."""
        if not 0 < self.positives < self.rows:
            return None
        rate = self.positives / self.rows
        return float(self.loss / self.rows / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))

    def pcoc(self) -> float | None:
        """As ``pcoc``."""
        return self.predicted / self.positives if self.positives else None


@dataclass(frozen=True)
class ValueTotals:
    """Sums over rows with a value; those of two parts add up to those of the whole.

    Attributes:
        rows: how many.
        observed: sum of the values, in their unit as all that follows.
        predicted: sum of the predicted values.
        squared: sum of the squared errors.
        absolute: sum of the absolute errors.
    """

    rows: int = 0
    observed: float = 0.0
    predicted: float = 0.0
    squared: float = 0.0
    absolute: float = 0.0

    @staticmethod
    def of(y: Vector, value: Vector) -> ValueTotals:
        """Sums of one batch.

        Raises:
            ValueError: a number that is not finite, unlike lengths.
        """
        y_N, value_N = (column.astype(np.float64) for column in pairs(y, value))
        error_N = value_N - y_N
        sums = (column.sum() for column in (y_N, value_N, np.square(error_N), np.abs(error_N)))
        return ValueTotals(len(y_N), *(float(total) for total in sums))

    def merged(self, other: ValueTotals) -> ValueTotals:
        """Sums of both."""
        return ValueTotals(
            self.rows + other.rows,
            self.observed + other.observed,
            self.predicted + other.predicted,
            self.squared + other.squared,
            self.absolute + other.absolute,
        )

    def rmse(self) -> float | None:
        """As ``rmse``."""
        return float(np.sqrt(self.squared / self.rows)) if self.rows else None

    def mae(self) -> float | None:
        """As ``mae``."""
        return self.absolute / self.rows if self.rows else None

    def pcoc(self) -> float | None:
        """As ``pcoc``."""
        return self.predicted / self.observed if self.observed else None
