"""FSIW: labels weighted by how likely they were to be seen as they are.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, check_floor, truly_negative


class FSIW(Late):
    """Feedback shift importance weighting: positives by 1 / F, negatives by how likely they stay negative.

    The paper learns both weights by two models on matured data; here F by age and segment and the line's own
    p say them. Where no row meets the floor, the gradient is that of ``Likelihood`` divided by F.

    Equation: ``y l1 / max(F, floor) + (1 - y) l0 (1 - p) / (1 - p F)``.
    Source: Yasui et al., A Feedback Shift Correction in Predicting Conversion Rates under Delayed Feedback,
    WWW 2020; what says the weights is ours.
    Use: as ``SoftLabel``; its negatives never weigh below 0.
    Cost: none but the table of F; a row weighs up to ``1 / floor``.

    Args:
        hours: least age at the reading.
        floor: least F to divide by, in (0, 1].

    Raises:
        ValueError: an age below 0, or a floor that is no share above 0.
    """

    reads: ClassVar[tuple[When, ...]] = ("early",)
    needs_completeness: ClassVar[bool] = True

    def __init__(self, *, hours: float = 0.0, floor: float = 0.25) -> None:
        super().__init__(hours=hours)
        self.floor = check_floor(floor)

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """Cross-entropy with the weights of both labels."""
        positive_BK = y_BK / reading.complete_BK.clamp(min=self.floor)
        negative_BK = (1 - y_BK) * truly_negative(hit_BK, miss_BK, reading.complete_BK)
        return -(positive_BK * hit_BK + negative_BK * miss_BK)
