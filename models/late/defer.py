"""DEFER: every label twice, as it is on the first day and as it is in the end.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, unseen


class Defer(Late):
    """Real negatives: all rows come again when their label is final, and both readings are weighted.

    The paper learns the probability of a late conversion by a head on matured data; here it is ``p (1 - F)``
    with F at the age of the first reading.

    Equation: of both readings ``y l1 p / (p - d / 2) + (1 - y) l0 (1 - p) / (1 - p + d / 2)``,
    ``d = p (1 - F)``.
    Source: Gu et al., Real Negatives Matter: Continuous Training with Real Negatives for Delayed Feedback
    Modeling, WWW 2021; the weights follow from its sampling, what says them is ours.
    Use: where final labels must have their say; half of what is learned is as old as the window.
    Cost: every row is learned twice, and so are its ids; the table of F.
    """

    reads: ClassVar[tuple[When, ...]] = ("early", "ripe")
    needs_completeness: ClassVar[bool] = True

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """Cross-entropy with the weights of both labels."""
        rest_BK = miss_BK.detach().exp()
        half_BK = unseen(hit_BK, reading.complete_BK) / 2
        positive_BK = 2 / (1 + reading.complete_BK)  # p / (p - d / 2) without a division by a p of 0
        negative_BK = rest_BK / (rest_BK + half_BK).clamp(min=1e-30)
        return -(y_BK * positive_BK * hit_BK + (1 - y_BK) * negative_BK * miss_BK)
