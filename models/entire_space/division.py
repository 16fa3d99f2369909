"""DIVISION: joint probabilities are learned directly, and conditional ones are their quotients.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels, Term, mean_terms


class Division(EntireSpace):
    """Every head says the joint probability of its objective, over all impressions.

    Nothing holds a joint probability below that of its parent, and a quotient may exceed one. Here the
    published joint probability is the smaller of the two, so that the quotient is at most one.

    Equation: ``L = mean_D e(o, pCTR) + mean_D e(t, pCTCVR)``, ``pCVR = pCTCVR / pCTR``.
    Source: baseline in Ma et al., Entire Space Multi-Task Model, SIGIR 2018, section 3.2.
    Use: as a baseline; ESMM keeps the order of the funnel by construction.
    Cost: no head and no pass of its own.
    """

    chained: ClassVar[bool] = False
    takes_open: ClassVar[bool] = True

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every impression whose label is to be learned, bool, shape (B, K)."""
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Cross-entropy of every joint probability over all impressions."""
        errors_BK = labels.errors_of(logits_BH)
        return mean_terms("joint", errors_BK, labels.trains_BK, labels.weight_B, funnel)

    def log_probabilities(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Log-probabilities given the parent, and from the impression, both (B, K)."""
        joint: list[Tensor] = []
        conditional: list[Tensor] = []
        for objective, reach_B in zip(funnel, logsigmoid(logits_BH).unbind(dim=1), strict=True):
            parent = funnel.parent_index(objective)
            if parent is None:
                joint.append(reach_B)
                conditional.append(reach_B)
            else:
                joint.append(torch.minimum(reach_B, joint[parent]))
                conditional.append(joint[-1] - joint[parent])
        return torch.stack(conditional, dim=1), torch.stack(joint, dim=1)
