"""Multi-DR: errors are imputed for all impressions, and put right where the error is seen.

Shapes: B rows, K objectives in the order of the funnel, H = K heads and one per objective below another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from features.funnel import Funnel
from models.entire_space.base import Labels, Term, below, inside, mean, twins
from models.entire_space.chain import log_reach
from models.entire_space.multi_ipw import MultiIPW
from models.heads import Heads

Imputes = Literal["error", "label"]
"""What the added head says."""


class MultiDR(MultiIPW):
    """A head per objective below another imputes its error; ``MultiIPW`` only puts the imputation right.

    The mean error over the entire space is right if either the propensity or the imputation is. Each of the
    two parts holds fixed what the other teaches: the imputation in the first, the error in the second; the
    propensity is fixed and clipped in both. Peers that let all of it learn from all terms teach the head to
    impute little wherever it does not hurt.

    With ``imputes="error"`` the head says the error itself, as in the paper (here through softplus, so that
    it is never negative). It does not depend on pCVR then, so the gradient of pCVR is that of ``MultiIPW``:
    the figure of the loss is doubly robust, and its step is not. With ``"label"`` the head says the logit of
    an imputed label m and ``ê = e(m, pCVR)``, and the gradient is doubly robust, too.

    A batch may cost less than 0 where its errors are below the imputed ones; ``Geometric``, which wants
    losses above 0, does not go with it.

    Equation: ``L = mean_D e(o, pCTR) + mean_D (ê + o (e - ê) / p) + i mean_D o (e - ê)^2 / p``,
    ``e = e(r, pCVR)``, ``p = sg(max(pCTR, floor))``; ``ê`` held fixed in the second term, ``e`` in the third.
    Source: Zhang et al., Large-scale Causal Approaches to Debiasing Post-click Conversion Rate Estimation
    with Multi-task Learning, WWW 2020; ``"label"`` after Wang et al., Doubly Robust Joint Learning for
    Recommendation on Data Missing Not at Random, ICML 2019. The papers' texts could not be read: the
    estimator is given from a secondary source, what is held fixed and the clip are not theirs.
    Use: as ``MultiIPW``; with ``"label"`` where its variance is too high.
    Cost: a head per objective below another.

    Args:
        floor: least propensity, in (0, 1].
        imputation: i, weight of what teaches the added head, above 0.
        imputes: what the added head says.

    Raises:
        ValueError: the floor is no probability above 0, the weight is not above 0, or another imputation.
    """

    takes_open: ClassVar[bool] = False

    def __init__(self, *, floor: float = 0.05, imputation: float = 1.0, imputes: Imputes = "label") -> None:
        super().__init__(floor=floor)
        if imputation <= 0:
            raise ValueError(f"imputation must be above 0, got {imputation}; MultiIPW imputes nothing.")
        if imputes not in get_args(Imputes):
            raise ValueError(f"imputes must be one of {get_args(Imputes)}, got {imputes!r}.")
        self.imputation, self.imputes = imputation, imputes

    def heads(self, funnel: Funnel) -> Heads:
        """One per objective, then the imputations of those below another, which follow what it is given."""
        return twins(funnel)

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """The estimate of the error over all impressions, and what teaches the imputation."""
        logits_BK, heads_BI = logits_BH[:, : len(funnel)], logits_BH[:, len(funnel) :]
        errors_BK = binary_cross_entropy_with_logits(logits_BK, labels.known_BK, reduction="none")
        reached_BK, _ = log_reach(logits_BK.detach(), funnel)
        imputations = dict(zip(below(funnel), heads_BI.unbind(dim=1), strict=True))
        terms = []
        for k, objective in enumerate(funnel):
            trains_B, error_B, parent = (
                labels.trains_BK[:, k],
                errors_BK[:, k],
                funnel.parent_index(objective),
            )
            if parent is None:
                terms.append(Term(f"{objective.name}: error", k, mean(error_B, trains_B, labels.weight_B)))
                continue
            propensity_B = self.propensity(reached_BK[:, parent])
            happened_B = inside(labels.y_BK, labels.trains_BK, funnel, k)
            logit_B, head_B = logits_BK[:, k], imputations[k]
            imputed_B = self.imputed(head_B.detach(), logit_B)
            seen_B = torch.where(happened_B, (error_B - imputed_B) / propensity_B, 0.0)
            gap_B = error_B.detach() - self.imputed(head_B, logit_B.detach())
            squared_B = torch.where(happened_B, gap_B.square() / propensity_B, 0.0)
            robust = mean(imputed_B + seen_B, trains_B, labels.weight_B)
            taught = self.imputation * mean(squared_B, trains_B, labels.weight_B)
            terms += [
                Term(f"{objective.name}: doubly robust", k, robust),
                Term(f"{objective.name}: imputation", k, taught),
            ]
        return terms

    def imputed(self, head_B: Tensor, logit_B: Tensor) -> Tensor:
        """Imputed errors, not negative, shape (B,).

        Args:
            head_B: what the added head says.
            logit_B: logit of the objective given its parent.
        """
        if self.imputes == "error":
            return softplus(head_B)
        return binary_cross_entropy_with_logits(logit_B, torch.sigmoid(head_B), reduction="none")
