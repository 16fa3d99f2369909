"""ESMM: every objective is learned over all impressions, through the product along its path.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels, Term, mean_terms
from models.entire_space.chain import log_reach


class ESMM(EntireSpace):
    """Cross-entropy of the joint probability against the joint label, over the entire space.

    The conditional probability of a child is never supervised directly: it is what remains of the joint one.

    Equation: ``L = mean_D e(o, pCTR) + mean_D e(t, pCTR * pCVR)``.
    Source: Ma et al., Entire Space Multi-Task Model, SIGIR 2018, equation 3.
    Use: as the default where conversions are few; biased upwards where clicks are strongly selected.
    Cost: no head and no pass of its own.
    """

    takes_open: ClassVar[bool] = True

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every impression whose label is to be learned, bool, shape (B, K)."""
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Joint cross-entropy of every objective over all impressions."""
        reached_BK, missed_BK = self.reach(logits_BH, funnel)
        errors_BK = labels.errors(reached_BK, missed_BK)
        return mean_terms("joint", errors_BK, labels.trains_BK, labels.weight_B, funnel)

    def reach(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Log-probabilities of reaching each objective from the impression, and of not, both (B, K)."""
        return log_reach(logits_BH, funnel)
