"""Positives divided by the share of them that can be known.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, check_floor, cross_entropy


class SoftLabel(Late):
    """A known positive stands for the 1 / F that there will be: the target is y / F, above 1.

    The loss is linear in the target and its mean is the label that will be, so its minimum is the true
    probability. It is unbounded below for a single row; the floor bounds what one row can weigh. Below an age
    at which F reaches the floor, levels come out low by F / floor.

    Equation: ``s l1 + (1 - s) l0``, ``s = y / max(F, floor)``.
    Source: inverse-probability weighting by the chance of being seen (Horvitz and Thompson, JASA 1952), with
    the delay's distribution estimated beforehand and not learned with the model.
    Use: where a method's loss is linear in its label; ``Likelihood`` has less variance at young ages.
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
        """Cross-entropy of the target ``y / F``."""
        return cross_entropy(hit_BK, miss_BK, y_BK / reading.complete_BK.clamp(min=self.floor))
