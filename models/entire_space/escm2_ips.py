"""ESCM2-IPS: inverse propensities for what follows a click, beside the joint loss of ESMM.

Shapes: B rows, K objectives in the order of the funnel, H = K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import Labels, Term, below
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
        self.conditional, self.joint = positive(conditional, joint)

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """The terms of ``MultiIPW``, and the joint ones of all objectives that are given another."""
        terms = super().terms(logits_BH, labels, funnel)
        return beside_joint(terms, logits_BH, labels, funnel, conditional=self.conditional, joint=self.joint)


def positive(conditional: float, joint: float) -> tuple[float, float]:
    """The two weights.

    Raises:
        ValueError: one is not above 0.
    """
    if min(conditional, joint) <= 0:
        raise ValueError(f"Both weights must be above 0, got {conditional} and {joint}.")
    return conditional, joint


def beside_joint(
    terms: Sequence[Term],
    logits_BH: Tensor,
    labels: Labels,
    funnel: Funnel,
    *,
    conditional: float,
    joint: float,
) -> Sequence[Term]:
    """Terms of what is given another, weighted, and ESMM's joint ones beside them.

    Args:
        terms: those of a method that learns every objective by its conditional probability.
        logits_BH: the objectives first.
        labels: of the same rows.
        funnel: the tree.
        conditional: weight of the given terms of objectives below another; the others keep theirs.
        joint: weight of the joint terms of the same objectives.
    """
    weighed = below(funnel)
    entire = ESMM().terms(logits_BH[:, : len(funnel)], labels, funnel)
    return [
        *(replace(t, loss=conditional * t.loss) if t.objective in weighed else t for t in terms),
        *(replace(t, loss=joint * t.loss) for t in entire if t.objective in weighed),
    ]
