"""ESCM2-IPS: inverse propensities for what follows a click, beside the joint loss of ESMM.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import Labels, Term
from models.entire_space.esmm import ESMM
from models.entire_space.multi_ipw import MultiIPW


class ESCM2IPS(MultiIPW):
    """``MultiIPW`` and, for every objective that is given another, ESMM's joint cross-entropy.

    Equation: ``L = L_CTR + c mean_D o e(r, pCVR) / sg(max(pCTR, floor)) + g mean_D e(t, pCTR pCVR)``.
    Source: Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion Rate
    Estimation, SIGIR 2022; the equation is given from a secondary source.
    Use: where ESMM over-predicts conversions on impressions that were not clicked.
    Cost: no head and no pass of its own.

    Args:
        conditional: c, weight of the term by propensity, above 0.
        joint: g, weight of the joint term, above 0.
        floor: least propensity, in (0, 1].

    Raises:
        ValueError: a weight is not above 0, or the floor is no probability above 0.
    """

    def __init__(self, *, conditional: float = 1.0, joint: float = 1.0, floor: float = 0.05) -> None:
        super().__init__(floor=floor)
        if min(conditional, joint) <= 0:
            raise ValueError(f"Both weights must be above 0, got {conditional} and {joint}.")
        self.conditional, self.joint = conditional, joint

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """The terms of ``MultiIPW``, and the joint ones of all objectives that are given another."""
        below = {k for k, objective in enumerate(funnel) if objective.given is not None}
        by_propensity = [
            replace(term, loss=self.conditional * term.loss) if term.objective in below else term
            for term in super().terms(logits_BH, labels, funnel)
        ]
        joint = [
            replace(term, loss=self.joint * term.loss)
            for term in ESMM().terms(logits_BH, labels, funnel)
            if term.objective in below
        ]
        return [*by_propensity, *joint]
