"""DCMT: a factual head learned where the parent happened, a counterfactual one where it did not.

Shapes: B rows, K objectives in the order of the funnel, H = K heads and one per objective below another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from features.funnel import Funnel
from models.entire_space.base import Labels, Term, below, inside, mean, twins
from models.entire_space.chain import log_reach
from models.entire_space.esmm import ESMM
from models.entire_space.multi_ipw import MultiIPW
from models.heads import Heads


class DCMT(MultiIPW):
    """Twin heads per objective below another, which price each other where they do not add up to one.

    The factual head, which is published, is learned as in ``MultiIPW``. The counterfactual one says that
    the objective would not have happened, and is learned where the parent did not happen, with the label 1
    and the inverse probability of that. Both probabilities are held fixed and clipped.

    What did not happen for want of a click is no proof that it would not have: the label 1 draws pCVR down
    on such rows, as far as lambda lets it.

    Equation: ``L = L_CTR + mean_D o e(r, p) / pCTR + (1 - o) e(1, p*) / (1 - pCTR)
    + lambda mean_D |1 - (p + p*)| + mean_D e(t, pCTR p)``, both divisors ``sg(max(., floor))``.
    Source: Zhu et al., DCMT: A Direct Entire-Space Causal Multi-Task Framework for Post-Click Conversion
    Estimation, ICDE 2023. The paper's text could not be read: the equation and the default of lambda are
    those of two public implementations that agree. The clip is ours.
    Use: where pCVR over all impressions is to be regularised more than ``ESCM2IPS`` does.
    Cost: a head per objective below another.

    Args:
        constraint: lambda, price of probabilities that do not add up to one, above 0.
        floor: least probability to divide by, in (0, 1].

    Raises:
        ValueError: lambda is not above 0, or the floor is no probability above 0.
    """

    takes_open: ClassVar[bool] = False

    def __init__(self, *, constraint: float = 1e-3, floor: float = 0.05) -> None:
        super().__init__(floor=floor)
        if constraint <= 0:
            raise ValueError(f"constraint must be above 0, got {constraint}.")
        self.constraint = constraint

    def heads(self, funnel: Funnel) -> Heads:
        """One per objective, then the counterfactual ones, which follow what their objective is given."""
        return twins(funnel)

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Joint errors of all; factual, counterfactual and their price for what is given another."""
        logits_BK, twins_BI = logits_BH[:, : len(funnel)], logits_BH[:, len(funnel) :]
        errors_BK = binary_cross_entropy_with_logits(logits_BK, labels.known_BK, reduction="none")
        reached_BK, missed_BK = log_reach(logits_BK.detach(), funnel)
        terms = list(ESMM().terms(logits_BK, labels, funnel))
        for k, twin_B in zip(below(funnel), twins_BI.unbind(dim=1), strict=True):
            objective, trains_B = funnel.objectives[k], labels.trains_BK[:, k]
            parent = funnel.parent_index(objective)
            happened_B = inside(labels.y_BK, labels.trains_BK, funnel, k)
            absent_B = trains_B & (labels.y_BK[:, parent] == 0)
            factual_B = errors_BK[:, k] / self.propensity(reached_BK[:, parent])
            # e(1, p*): its logarithm, never that of a rounded probability
            other_B = softplus(-twin_B) / self.propensity(missed_BK[:, parent])
            # 1 - p is the sigmoid of the negative logit, so nothing cancels near p = 1
            apart_B = (torch.sigmoid(-logits_BK[:, k]) - torch.sigmoid(twin_B)).abs()
            for name, error_B, weight in (
                ("factual", torch.where(happened_B, factual_B, 0.0), 1.0),
                ("counterfactual", torch.where(absent_B, other_B, 0.0), 1.0),
                ("constraint", apart_B, self.constraint),
            ):
                loss = weight * mean(error_B, trains_B, labels.weight_B)
                terms.append(Term(f"{objective.name}: {name}", k, loss))
        return terms
