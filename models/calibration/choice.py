"""Which method the evidence allows, as a recipe's setting."""

from __future__ import annotations

from dataclasses import dataclass

from models.calibration.bins import Bins
from models.calibration.curve import Curve
from models.calibration.identity import identity
from models.calibration.isotonic import isotonic
from models.calibration.platt import platt

METHODS = ("identity", "platt", "isotonic")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How scores become rates: evidence of the last days decides the method, for each score column alone.

    Attributes:
        days: newest days whose evaluation is the evidence, the run's own included.
        platt_from: fewer positives or negatives than these leave the scores as they are.
        isotonic_from: from so many positives and negatives on a curve is fitted, below it two numbers.

    Raises:
        ValueError: no day, or limits that do not rise from 1.
    """

    days: int = 3
    platt_from: int = 30
    isotonic_from: int = 1000

    def __post_init__(self) -> None:
        if self.days < 1 or not 1 <= self.platt_from <= self.isotonic_from:
            raise ValueError(f"{self}: at least one day, and 1 <= platt_from <= isotonic_from.")

    def fit(self, bins: Bins) -> Curve:
        """The curve of one score column."""
        events = min(bins.positives, bins.rows - bins.positives)
        if events < self.platt_from:
            return identity(bins)
        return isotonic(bins) if events >= self.isotonic_from else platt(bins)
