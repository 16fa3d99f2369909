"""FNW: every impression is first a negative, and a positive once more when it converts.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When


class FNW(Late):
    """Fake negatives, weighted: nothing has to be known of the delay.

    A conversion that is known at the first reading is both at once, a negative and a positive.

    Equation: first reading ``(1 - p)(1 + p) l0 + y (1 + p) l1``, once more when it converts ``(1 + p) l1``.
    Source: Ktena et al., Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR
    prediction, RecSys 2019; weights after the public code of ES-DFM.
    Use: where no table of F can be had; levels follow slowly, as they hang on the line's own p.
    Cost: converted rows are learned twice.
    """

    reads: ClassVar[tuple[When, ...]] = ("early", "turned")

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """The negative of a first reading and the positive of a label that is 1."""
        p_BK = hit_BK.detach().exp()
        negative_BK = (1 - p_BK) * (1 + p_BK) * ~reading.again_BK
        return -(y_BK * (1 + p_BK) * hit_BK + negative_BK * miss_BK)
