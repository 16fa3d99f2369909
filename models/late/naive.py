"""Take every young label at its word.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, cross_entropy


class Naive(Late):
    """What has not converted yet counts as if it never would: levels come out low by the factor F.

    Equation: ``y l1 + (1 - y) l0``, of labels as they are on the first day.
    Source: the baseline of papers on delayed feedback, such as Yang et al., ES-DFM, AAAI 2021.
    Use: as a baseline; for the order alone where F is the same everywhere.
    Cost: none.
    """

    reads: ClassVar[tuple[When, ...]] = ("early",)

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """The cross-entropy."""
        del reading
        return cross_entropy(hit_BK, miss_BK, y_BK)
