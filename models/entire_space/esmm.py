"""ESMM: every objective is learned over all impressions, through the product along its path.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import EntireSpace
from models.entire_space.chain import log_reach


class ESMM(EntireSpace):
    """Cross-entropy of the joint probability against the joint label, over the entire space.

    The conditional probability of a child is never supervised directly: it is what remains of the joint
    one. Source: Ma et al., Entire Space Multi-Task Model, SIGIR 2018, equation 3.
    """

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every impression whose label is to be learned, bool, shape (B, K)."""
        return trains_BK

    def errors(self, logits_BK: Tensor, y_BK: Tensor, funnel: Funnel) -> Tensor:
        """Joint cross-entropy in nats, shape (B, K)."""
        reached_BK, missed_BK = log_reach(logits_BK, funnel)
        return -(y_BK * reached_BK + (1 - y_BK) * missed_BK)
