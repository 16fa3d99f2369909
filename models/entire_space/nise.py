"""NISE: what follows a click is unlabelled without one, and learns from its own prediction there.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels, Term, inside, mean


class NISE(EntireSpace):
    """No joint loss; the label where the parent happened, the prediction as a pseudo-label where not.

    The pseudo-label is not held fixed: ``e(p, p)`` is the entropy of p, which draws p away from 1/2. (Held
    fixed, its gradient would be exactly 0.) Rare conversions are drawn towards 0 on rows without a click.

    The loss of an objective that is given another is brought to the size of its parent's, with a factor that
    is held fixed. A batch in which the parent trains no row takes the size 1.

    Equation: ``L = L_CTR + w L_CVR``, ``L_CVR = mean_D o e(r, p) + (1 - o) e(p, p)``,
    ``w = alpha sg(min(L_CTR / L_CVR, beta))``.
    Source: Huang et al., Utilizing Non-click Samples via Semi-supervised Learning for Conversion Rate
    Prediction, RecSys 2024; equation after the authors' published code.
    Use: where a conversion is likely enough once clicked, and missing clicks must not count as failures.
    Cost: no head and no pass of its own.

    Args:
        alpha: weight of what is given another beside its parent, above 0.
        beta: greatest ratio of the losses, above 0.

    Raises:
        ValueError: a setting is not above 0.
    """

    detaches: ClassVar[bool] = True
    loose: ClassVar[bool] = True

    def __init__(self, *, alpha: float = 1.0, beta: float = 50.0) -> None:
        if min(alpha, beta) <= 0:
            raise ValueError(f"alpha and beta must be above 0, got {alpha} and {beta}.")
        self.alpha, self.beta = alpha, beta

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every impression whose label is to be learned, bool, shape (B, K)."""
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Cross-entropy where the label is known, entropy where it is not."""
        errors_BK = binary_cross_entropy_with_logits(logits_BH, labels.known_BK, reduction="none")
        p_BK = torch.sigmoid(logits_BH)
        entropy_BK = p_BK * softplus(-logits_BH) + torch.sigmoid(-logits_BH) * softplus(logits_BH)
        terms, sizes = [], []
        for k, objective in enumerate(funnel):
            trains_B, parent = labels.trains_BK[:, k], funnel.parent_index(objective)
            if parent is None:
                loss = mean(errors_BK[:, k], trains_B, labels.weight_B)
                terms.append(Term(f"{objective.name}: error", k, loss))
                sizes.append(loss.detach())
                continue
            happened_B = inside(labels.y_BK, labels.trains_BK, funnel, k)
            absent_B = labels.y_BK[:, parent] == 0
            labelled = mean(torch.where(happened_B, errors_BK[:, k], 0.0), trains_B, labels.weight_B)
            unlabelled = mean(torch.where(absent_B, entropy_BK[:, k], 0.0), trains_B, labels.weight_B)
            size = (labelled + unlabelled).detach()
            weight = self.weight(sizes[parent], size, labels.trains_BK[:, parent].any())
            terms += [
                Term(f"{objective.name}: labelled", k, weight * labelled),
                Term(f"{objective.name}: unlabelled", k, weight * unlabelled),
            ]
            sizes.append(size)
        return terms

    def weight(self, above: Tensor, own: Tensor, known: Tensor) -> Tensor:
        """Factor of a loss, from its size and its parent's, both held fixed, and whether there is one."""
        ratio = torch.where(known, above / own.clamp(min=torch.finfo(own.dtype).tiny), 1.0)
        return self.alpha * ratio.clamp(max=self.beta)
