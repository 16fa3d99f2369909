"""Wait until no label can change.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, cross_entropy


class Wait(Late):
    """A label trains once, when its windows and the lateness are over.

    Equation: ``y l1 + (1 - y) l0``, of final labels alone.
    Source: none needed; it is what every correction is held to where nothing drifts.
    Use: where windows are short, or tastes do not move within them.
    Cost: what is learned of conversions is as old as their window.
    """

    reads: ClassVar[tuple[When, ...]] = ("final",)

    def __init__(self) -> None:
        super().__init__()

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """The cross-entropy; no reading of this policy is open."""
        del reading
        return cross_entropy(hit_BK, miss_BK, y_BK)
