"""A calibrator as it is stored and applied: a rising line through a few points; J knots, N rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.calibration.bins import Bins, expit, logit
from models.metrics.rows import Array

#: Steps of halving after which a root is exact to 1e-10.
_HALVINGS = 36
#: How far, in logits, a curve may be moved to keep the mean.
_FARTHEST = 4.0


@dataclass(frozen=True)
class Curve:
    """From a predicted to a calibrated probability, a straight line between knots; without knots, as it is.

    Before the first knot it is a line from (0, 0), after the last one to (1, 1). It rises everywhere, so that
    scores stay in their order; two that are a few digits of float32 apart may become equal.

    Attributes:
        method: how it was fitted.
        raw_J: predicted probabilities, rising, between 0 and 1, both excluded.
        calibrated_J: what they become, likewise.

    Raises:
        ValueError: knots that do not rise or do not lie between 0 and 1.
    """

    method: str
    raw_J: Array
    calibrated_J: Array

    def __post_init__(self) -> None:
        if self.raw_J.shape != self.calibrated_J.shape:
            raise ValueError(f"{len(self.raw_J)} knots have {len(self.calibrated_J)} calibrated values.")
        for name, knots_J in (("raw", self.raw_J), ("calibrated", self.calibrated_J)):
            if not (np.diff(np.concatenate([[0.0], knots_J, [1.0]])) > 0).all():
                raise ValueError(f"The {name} values of a curve must rise between 0 and 1: {knots_J}.")

    def apply(self, p_N: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Calibrated probabilities in [0, 1], float32, in the order of the predicted ones.

        Args:
            p_N: predicted probabilities of any shape.
        """
        return self.exact(p_N).astype(np.float32)

    def exact(self, p_N: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """As ``apply``, in float64; without knots, in the type in which they came."""
        if not len(self.raw_J):
            return p_N
        knots_J = np.concatenate([[0.0], self.raw_J, [1.0]])
        return np.asarray(np.interp(p_N, knots_J, np.concatenate([[0.0], self.calibrated_J, [1.0]])))

    @staticmethod
    def unchanged(method: str) -> Curve:
        """The curve without knots."""
        return Curve(method, np.empty(0), np.empty(0))

    def shared(self, share: float) -> Curve:
        """The curve that goes only a share of the way, in logits, from the predicted to the calibrated.

        Args:
            share: from 0, nothing, to 1, all of it.
        """
        raw_J, whole_J = logit(self.raw_J), logit(self.calibrated_J)
        return Curve(self.method, self.raw_J, expit(raw_J + share * (whole_J - raw_J)))

    def centred(self, bins: Bins) -> Curve:
        """The same curve, moved by one number of logits so that it predicts as many positives as there were.

        Interpolation between means of bins is right at the knots and, where the curve bends, a little off
        between them; this puts the sum right.
        """
        rows_F, positives_F, p_F = bins.filled()

        def surplus(shift: float) -> float:
            return float(rows_F @ self._moved(shift).exact(p_F) - positives_F.sum())

        low, high = -_FARTHEST, _FARTHEST
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if surplus(middle) > 0 else (middle, high)
        return self._moved((low + high) / 2)

    def _moved(self, shift: float) -> Curve:
        return Curve(self.method, self.raw_J, expit(logit(self.calibrated_J) + shift))
