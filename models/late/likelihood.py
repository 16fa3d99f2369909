"""The likelihood of what is seen at an age.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models.late.base import Late, Reading, When, log_not_seen


class Likelihood(Late):
    """No conversion is seen where there is none, or where it comes later: with probability 1 - p F.

    F must stand on every row that the objective is learned from. With the joint probability of ESMM these are
    all impressions: F on clicked rows alone, and 1 elsewhere, leaves the level as low as F almost.

    Equation: ``-(y log p + (1 - y) log(1 - p F))``.
    Source: the likelihood of Chapelle, Modeling Delayed Feedback in Display Advertising, KDD 2014, with the
    delay's distribution estimated beforehand; what holds no p of a positive is left out.
    Use: as the first choice. No floor is needed: a label that could not be known yet weighs nothing.
    Cost: none but the table of F.
    """

    reads: ClassVar[tuple[When, ...]] = ("early",)
    needs_completeness: ClassVar[bool] = True

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """Minus the log-likelihood of the label at its age."""
        not_seen_BK = log_not_seen(hit_BK, miss_BK, reading.complete_BK)
        return -torch.where(y_BK == 1, hit_BK, not_seen_BK)
