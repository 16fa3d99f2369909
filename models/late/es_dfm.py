"""ES-DFM: what is seen on the first day, and late conversions once more when they come.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.late.base import Late, Reading, When, truly_negative, unseen


class ESDFM(Late):
    """Elapsed-time sampling: late positives come again, and negatives weigh what is true of them.

    The paper learns both probabilities of the weights by heads on matured data; here F by age and segment and
    the line's own p say them, with F at the age of the first reading.

    Equation: ``y (1 + d) l1 + (1 - y) (1 + d) (1 - p) / (1 - p F) l0``, once more when it converts
    ``(1 + d) l1``, with ``d = p (1 - F)``.
    Source: Yang et al., Capturing Delayed Feedback in Conversion Rate Prediction via Elapsed-Time Sampling,
    AAAI 2021; weights after its public code, what says them is ours.
    Use: where late conversions differ from early ones by more than F tells.
    Cost: late conversions are learned twice; the table of F.
    """

    reads: ClassVar[tuple[When, ...]] = ("early", "turned")
    needs_completeness: ClassVar[bool] = True

    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """Cross-entropy with the weights of both labels; what comes again is positive."""
        complete_BK = reading.complete_BK
        negative_BK = (1 - y_BK) * truly_negative(hit_BK, miss_BK, complete_BK)
        return -(1 + unseen(hit_BK, complete_BK)) * (y_BK * hit_BK + negative_BK * miss_BK)
