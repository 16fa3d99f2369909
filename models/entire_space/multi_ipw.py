"""Multi-IPW: rows of an objective's space, weighted so that they stand for all impressions.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels, Term, inside, mean
from models.entire_space.chain import log_reach


class MultiIPW(EntireSpace):
    """Cross-entropy on the rows whose parent happened, each over the probability that it did.

    The propensity is what the line itself says of the parent, held fixed in the gradient and clipped from
    below: a row counts at most ``1 / floor`` times. The mean is over all impressions whose label trains, so
    where the propensity is right its expectation is the loss over the entire space. An objective of the
    impression itself is learned over all impressions.

    Equation: ``L = mean_D e(o, pCTR) + mean_D o e(r, pCVR) / sg(max(pCTR, floor))``.
    Source: Zhang et al., Large-scale Causal Approaches to Debiasing Post-click Conversion Rate Estimation
    with Multi-task Learning, WWW 2020. The clip is not the paper's.
    Use: where clicks are strongly selected and enough clicks convert.
    Cost: no head and no pass of its own; more variance than ``Masked``.

    Args:
        floor: least propensity, in (0, 1].

    Raises:
        ValueError: the floor is no probability above 0.
    """

    detaches: ClassVar[bool] = True
    takes_open: ClassVar[bool] = True

    def __init__(self, *, floor: float = 0.05) -> None:
        if not 0 < floor <= 1:
            raise ValueError(f"floor must lie in (0, 1], got {floor}.")
        self.floor = floor

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every impression whose label is to be learned, bool, shape (B, K)."""
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Conditional cross-entropy of every objective, weighted to all impressions."""
        errors_BK = labels.errors_of(logits_BH)
        reached_BK, _ = log_reach(logits_BH.detach(), funnel)
        terms = []
        for k, objective in enumerate(funnel):
            error_B, parent = errors_BK[:, k], funnel.parent_index(objective)
            if parent is not None:
                propensity_B = self.propensity(reached_BK[:, parent])
                happened_B = inside(labels.y_BK, labels.trains_BK, funnel, k)
                error_B = torch.where(happened_B, error_B / propensity_B, 0.0)
            loss = mean(error_B, labels.trains_BK[:, k], labels.weight_B)
            terms.append(Term(f"{objective.name}: by propensity", k, loss))
        return terms

    def propensity(self, log_p_B: Tensor) -> Tensor:
        """Probabilities to divide by, shape (B,): never below the floor.

        Args:
            log_p_B: log-probabilities, held fixed.
        """
        return log_p_B.exp().clamp(min=self.floor)
