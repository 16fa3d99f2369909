"""Which method the evidence allows, and how much of its correction, as a recipe's setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.calibration.bins import Bins
from models.calibration.curve import Curve
from models.calibration.identity import identity
from models.calibration.isotonic import isotonic
from models.calibration.platt import platt
from models.calibration.proof import loss_after

METHODS = ("identity", "withheld", "platt", "isotonic")
#: How much of a correction may be applied.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How scores become rates: evidence of the last days decides the method, for each score column alone.

    Evidence is about the versions of before, and the model goes on learning: what was wrong yesterday it has
    in part put right by itself today, and a curve would put it right once more. So only that share of a
    correction is applied which would have been best so far, on days that came after those that each curve was
    fitted to.

    Attributes:
        days: newest days whose evaluation a curve is fitted to, the run's own included.
        proof: newest days on which the shares are compared, each by a curve of the days before it.
        tries: fewer of them than these leave the scores as they are.
        platt_from: fewer positives or negatives than these leave the scores as they are.
        isotonic_from: from so many positives and negatives on a curve is fitted, below it two numbers.

    Raises:
        ValueError: no day, or limits that do not rise from 1.
    """

    days: int = 7
    proof: int = 14
    tries: int = 3
    platt_from: int = 30
    isotonic_from: int = 1000

    def __post_init__(self) -> None:
        if self.days < 1 or not 1 <= self.tries <= self.proof:
            raise ValueError(f"{self}: at least one day, and 1 <= tries <= proof.")
        if not 1 <= self.platt_from <= self.isotonic_from:
            raise ValueError(f"{self}: limits must be 1 <= platt_from <= isotonic_from.")

    @property
    def reach(self) -> int:
        """Newest days that anything depends on."""
        return self.days + self.proof

    def fit(self, history: Sequence[Bins]) -> tuple[Curve, float]:
        """The curve of one score column and the share of its correction that is in it.

        Its method is ``identity`` where events are too few, or later days to try curves on, and ``withheld``
        where none of the correction would have been best; both change nothing.

        Args:
            history: evidence of each of the newest ``reach`` days that have one, oldest first.
        """
        curve = self._fitted(history[-self.days :])
        losses, tries = np.zeros(len(SHARES)), 0
        for place in range(max(1, len(history) - self.proof), len(history)):
            tried = self._fitted(history[max(0, place - self.days) : place])
            if tried.method != "identity" and history[place].rows:
                tries += 1
                losses += [loss_after(tried.shared(share), history[place]) for share in SHARES]
        if curve.method == "identity" or tries < self.tries:
            return identity(), 0.0
        share = SHARES[int(losses.argmin())]
        return (curve.shared(share), share) if share else (Curve.unchanged("withheld"), 0.0)

    def _fitted(self, days: Sequence[Bins]) -> Curve:
        bins = Bins.total(days)
        events = min(bins.positives, bins.rows - bins.positives)
        if events < self.platt_from:
            return identity()
        return isotonic(bins) if events >= self.isotonic_from else platt(bins)
