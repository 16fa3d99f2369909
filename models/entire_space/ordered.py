"""Direct joint probabilities with a calibrator that keeps the order of the funnel.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import Labels, Term, mean
from models.entire_space.division import Division


class Ordered(Division):
    """``Division`` and a price for every joint probability above that of its parent.

    What is published is ordered in any case, as with ``Division``; the calibrator makes that a rare
    correction.

    Equation: ``L = sum_t mean_D e(y_t, p_t) + alpha sum_t>1 mean_D max(p_t - p_t-1, 0)``.
    Source: Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions with
    Multi-task Learning in Targeted Display Advertising, KDD 2021 (AITM's behavioral expectation calibrator).
    Use: with ``AITM``.
    Cost: no head and no pass of its own.

    Args:
        alpha: weight of the calibrator, above 0; the paper's is 0.6.

    Raises:
        ValueError: alpha is not above 0.
    """

    def __init__(self, *, alpha: float = 0.6) -> None:
        if alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {alpha}; Division has no calibrator.")
        self.alpha = alpha

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Cross-entropy of every joint probability, and the calibrator of all that are given another."""
        terms = list(super().terms(logits_BH, labels, funnel))
        p_BK = torch.sigmoid(logits_BH)
        for k, objective in enumerate(funnel):
            parent = funnel.parent_index(objective)
            if parent is not None:
                above_B = torch.relu(p_BK[:, k] - p_BK[:, parent])
                price = mean(above_B, labels.trains_BK[:, k], labels.weight_B)
                terms.append(Term(f"{objective.name}: order", k, self.alpha * price))
        return terms
