"""Which method the evidence allows, as a recipe's setting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.calibration.bins import Bins
from models.calibration.curve import Curve
from models.calibration.identity import identity
from models.calibration.isotonic import isotonic
from models.calibration.platt import platt
from models.calibration.proof import CLEARLY, harm

METHODS = ("identity", "withheld", "platt", "isotonic")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How scores become rates: evidence of the last days decides the method, for each score column alone.

    A curve is published once one that was fitted to the days before has stood on the newest day. The model
    goes on learning while evidence gathers: what was wrong with a line's first predictions it has put right
    itself a day later, and a curve of then would put it right a second time.

    Attributes:
        days: newest days whose evaluation is the evidence, the run's own included.
        platt_from: fewer positives or negatives than these leave the scores as they are.
        isotonic_from: from so many positives and negatives on a curve is fitted, below it two numbers.

    Raises:
        ValueError: fewer than two days, or limits that do not rise from 1.
    """

    days: int = 3
    platt_from: int = 30
    isotonic_from: int = 1000

    def __post_init__(self) -> None:
        if self.days < 2 or not 1 <= self.platt_from <= self.isotonic_from:
            raise ValueError(f"{self}: at least two days, and 1 <= platt_from <= isotonic_from.")

    def fit(self, before: Bins, newest: Bins) -> Curve:
        """The curve of one score column, fitted to all the evidence if it has proved itself.

        Its method is ``identity`` where the days before have too few events, and ``withheld`` where a curve
        of theirs would clearly have harmed the newest day; both change nothing.

        Args:
            before: evidence of the days before the newest.
            newest: evidence of the newest day.
        """
        tried = self._fitted(before)
        if tried.method == "identity":
            return tried
        if harm(tried, newest) > CLEARLY:
            return Curve("withheld", np.empty(0), np.empty(0))
        return self._fitted(before.merged(newest))

    def _fitted(self, bins: Bins) -> Curve:
        events = min(bins.positives, bins.rows - bins.positives)
        if events < self.platt_from:
            return identity(bins)
        return isotonic(bins) if events >= self.isotonic_from else platt(bins)
