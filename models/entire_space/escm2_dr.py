"""ESCM2-DR: doubly robust errors for what follows a click, beside the joint loss of ESMM.

Shapes: B rows, K objectives in the order of the funnel, H = K heads and one per objective below another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import Labels, Term
from models.entire_space.escm2_ips import beside_joint, positive
from models.entire_space.multi_dr import Imputes, MultiDR


class ESCM2DR(MultiDR):
    """``MultiDR`` and, for every objective that is given another, ESMM's joint cross-entropy.

    Equation: ``L = L_CTR + c (mean_D (ê + o (e - ê) / p) + i mean_D o (e - ê)^2 / p) + g L_CTCVR``,
    ``e = e(r, pCVR)``, ``p = sg(max(pCTR, floor))``, ``ê`` as in ``MultiDR``.
    Source: Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion Rate
    Estimation, SIGIR 2022; the equation is given from a secondary source.
    Use: as ``ESCM2IPS``, where its variance is too high.
    Cost: a head per objective below another.

    Args:
        conditional: c, weight of the doubly robust term and its imputation, above 0.
        joint: g, weight of the joint term, above 0.
        floor: least propensity, in (0, 1].
        imputation: i, weight of what teaches the added head, above 0.
        imputes: what the added head says, see ``MultiDR``.

    Raises:
        ValueError: a weight is not above 0, the floor is no probability above 0, or another imputation.
    """

    # the joint loss holds the size
    loose: ClassVar[bool] = False

    def __init__(
        self,
        *,
        conditional: float = 1.0,
        joint: float = 1.0,
        floor: float = 0.05,
        imputation: float = 1.0,
        imputes: Imputes = "label",
    ) -> None:
        super().__init__(floor=floor, imputation=imputation, imputes=imputes)
        self.conditional, self.joint = positive(conditional, joint)

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """The terms of ``MultiDR``, and the joint ones of all objectives that are given another."""
        terms = super().terms(logits_BH, labels, funnel)
        return beside_joint(terms, logits_BH, labels, funnel, conditional=self.conditional, joint=self.joint)
