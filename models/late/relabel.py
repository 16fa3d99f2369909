"""Read every open label again each night.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, cross_entropy


class Relabel(Late):
    """All impressions of the open window are learned every night, with their labels as they are by then.

    A conversion counts as missing on each night until it comes, so levels come out low by the mean of F over
    the ages of the window.

    Equation: ``y l1 + (1 - y) l0``, in every run while the label is open.
    Source: the common practice of nightly training over a rolling window; no paper.
    Use: as a baseline.
    Cost: a row is learned once per day of its window, and its ids as often.
    """

    reads: ClassVar[tuple[When, ...]] = ("nightly",)

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """The cross-entropy."""
        del reading
        return cross_entropy(hit_BK, miss_BK, y_BK)
