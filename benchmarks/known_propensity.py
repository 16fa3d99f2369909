"""Multi-IPW with propensities that are told instead of learned: what is left to gain from better ones.

Shapes: B rows, K = 2 objectives, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from features.funnel import Funnel
from models.entire_space.base import Labels, Term, inside, mean
from models.entire_space.multi_ipw import MultiIPW


class KnownPropensity(MultiIPW):
    """The weight of a row is the true probability of its click, and teaches the conversion alone.

    Equation: ``L = L_CTR + mean_D o e(r, pCVR) / max(weight, floor)``.
    Source: Zhang et al., WWW 2020, as ``MultiIPW``.
    Use: where the truth is known, in simulations.
    Cost: none.
    """

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Cross-entropy of the click, and of the conversion by the inverse of the weight."""
        errors_BK = binary_cross_entropy_with_logits(logits_BH, labels.known_BK, reduction="none")
        happened_B = inside(labels.y_BK, labels.trains_BK, funnel, 1)
        propensity_B = labels.weight_B.clamp(min=self.floor)
        errors = (errors_BK[:, 0], torch.where(happened_B, errors_BK[:, 1] / propensity_B, 0.0))
        equal_B = torch.ones_like(labels.weight_B)
        return [
            Term(f"{o.name}: by known propensity", k, mean(errors[k], labels.trains_BK[:, k], equal_B))
            for k, o in enumerate(funnel)
        ]
