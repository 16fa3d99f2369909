"""Masked losses: every objective is learned in its own space, the rows where its parent happened.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels, Term, inside, mean_terms


class Masked(EntireSpace):
    """Cross-entropy of the conditional probability, on the rows whose parent's label is 1.

    It is the CVR model that ESMM calls BASE, and PLE's loss with the space indicator of each objective.

    Equation: ``L = mean_D e(o, pCTR) + mean_O e(r, pCVR)``.
    Source: ESMM (Ma et al., SIGIR 2018, section 3.2); PLE (Tang et al., RecSys 2020, equation 8).
    Use: where what follows a click matters among clicked rows only; biased over all impressions.
    Cost: no head and no pass of its own.
    """

    own_space: ClassVar[bool] = True
    takes_open: ClassVar[bool] = True

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Rows to be learned that lie in the objective's space, bool, shape (B, K)."""
        return torch.stack([inside(y_BK, trains_BK, funnel, k) for k in range(len(funnel))], dim=1)

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Conditional cross-entropy of every objective in its own space."""
        errors_BK = labels.errors_of(logits_BH)
        counts_BK = self.counts(labels.y_BK, labels.trains_BK, funnel)
        return mean_terms("conditional", errors_BK, counts_BK, labels.weight_B, funnel)
