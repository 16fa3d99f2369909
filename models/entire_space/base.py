"""The one contract of every entire-space method: logits to probabilities, and to one loss per objective.

Shapes: B rows, K objectives in the order of the funnel, H heads (the objectives first).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from features.funnel import Funnel
from models.entire_space.chain import log_reach
from models.heads import Heads
from models.late.base import Late, Reading
from models.late.wait import Wait


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of the rows of a batch.

    Attributes:
        y_BK: joint labels 0 or 1; where a row does not train they may hold anything, NaN included.
        trains_BK: labels to be learned from, bool.
        weight_B: weights, not negative.
        step: batches that the line has learned before, over all days.
        reading: how far labels could be known; ``None`` where all that train are final.
        late: what is made of labels that could still change.
    """

    y_BK: Tensor
    trains_BK: Tensor
    weight_B: Tensor
    step: int = 0
    reading: Reading | None = None
    late: Late = field(default_factory=Wait)

    @property
    def known_BK(self) -> Tensor:
        """Labels where a row trains, 0 elsewhere: NaN would survive multiplication by a zero weight."""
        return torch.where(self.trains_BK, self.y_BK, 0.0)

    def errors(self, hit_BK: Tensor, miss_BK: Tensor) -> Tensor:
        """Error of every label by its log-probability and that of its absence, shape (B, K)."""
        return self.late.errors(hit_BK, miss_BK, self.known_BK, self.reading)

    def errors_of(self, logits_BK: Tensor) -> Tensor:
        """Error of every label by its logit, shape (B, K)."""
        if self.reading is None:
            return binary_cross_entropy_with_logits(logits_BK, self.known_BK, reduction="none")
        return self.errors(logsigmoid(logits_BK), logsigmoid(-logits_BK))

    def of(self, objectives: Sequence[int]) -> Labels:
        """The same rows, of some of the objectives."""
        k = list(objectives)
        reading = None if self.reading is None else self.reading.of(k)
        return replace(self, y_BK=self.y_BK[:, k], trains_BK=self.trains_BK[:, k], reading=reading)


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of the loss of an objective.

    Attributes:
        name: what it is, for logs and tests.
        objective: whose loss it is part of, by place in the funnel.
        loss: scalar; exactly 0, with a gradient of 0, if no row counts.
    """

    name: str
    objective: int
    loss: Tensor


class EntireSpace(ABC):
    """How conditional and joint probabilities are formed, which rows teach an objective, and at what cost.

    A method sees the binary objectives alone; ``Objectives`` of ``models.entire_space.values`` hands it their
    part of a funnel that also has values.

    Its docstring has the lines ``Equation:``, ``Source:``, ``Use:`` and ``Cost:``, from which
    ``docs/models.md`` is made.

    Attributes:
        own_space: every objective is learned by its conditional probability, on rows of its own space
            alone; sampling policies that change that space ask for it.
        chained: the joint probability is the product of the conditional ones along the path, each by the
            head of its own objective; sampling policies that change the odds of an objective ask for it.
        detaches: a factor of some loss is held fixed in its gradient, which then is not its derivative.
        holds_size: where propensities are right, the loss is least at probabilities of the size that was
            seen. Else what is given another needs calibration before its size means anything.
        takes_open: its errors are those of ``Labels``, so that labels may train that can still change.
    """

    own_space: ClassVar[bool] = False
    chained: ClassVar[bool] = True
    detaches: ClassVar[bool] = False
    holds_size: ClassVar[bool] = True
    takes_open: ClassVar[bool] = False

    def check(self, funnel: Funnel) -> None:  # noqa: B027 - most methods run on every funnel
        """Refuse a funnel that the method cannot be meant for.

        Raises:
            ValueError: naming what the method was told and what the funnel has.
        """

    def heads(self, funnel: Funnel) -> Heads:
        """The logits that the method reads: one per objective, and its own after them."""
        return Heads.of(funnel)

    @abstractmethod
    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Rows that each objective learns from, bool, shape (B, K); a subset of ``trains_BK``."""

    @abstractmethod
    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """The summands of the losses; every objective has at least one.

        Args:
            logits_BH: in the order of ``heads``.
            labels: of the same rows.
            funnel: the tree.
        """

    def log_probabilities(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Log-probabilities of each objective given its parent, and from the impression, both (B, K).

        Joint ones never exceed their parent's.
        """
        logits_BK = logits_BH[:, : len(funnel)]
        return logsigmoid(logits_BK), log_reach(logits_BK, funnel)[0]

    def losses(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Tensor:
        """One loss per objective, shape (K,): the sum of its terms."""
        total: dict[int, Tensor] = {}
        for term in self.terms(logits_BH, labels, funnel):
            known = total.get(term.objective)
            total[term.objective] = term.loss if known is None else known + term.loss
        return torch.stack([total[k] for k in range(len(funnel))])


def inside(y_BK: Tensor, trains_BK: Tensor, funnel: Funnel, k: int) -> Tensor:
    """Rows of the objective's own space (its parent happened) whose label trains, bool, shape (B,)."""
    parent = funnel.parent_index(funnel.objectives[k])
    return trains_BK[:, k] if parent is None else trains_BK[:, k] & (y_BK[:, parent] == 1)


def below(funnel: Funnel) -> tuple[int, ...]:
    """Places of the objectives that are given another."""
    return tuple(k for k, objective in enumerate(funnel) if objective.given is not None)


def twins(funnel: Funnel) -> Heads:
    """A head per objective, then a second one for each that is given another, following what it is given."""
    return Heads.of(funnel, tuple(funnel.parent_index(funnel.objectives[k]) for k in below(funnel)))


def mean(error: Tensor, counts: Tensor, weight_B: Tensor) -> Tensor:
    """Weighted mean error over the rows that count; exactly 0, with a gradient of 0, if there are none.

    The mean divides by the weight of its own rows, as in PLE (Tang et al., RecSys 2020, equation 8), so a
    rare objective is not drowned by rows that it does not learn from.

    Args:
        error: one error per row, shape (B,), or one per row and objective, shape (B, K), of which each
            objective has its own mean; where a row does not count it is never looked at.
        counts: bool, of the same shape.
        weight_B: not negative.
    """
    weight = (weight_B if error.dim() == 1 else weight_B.unsqueeze(1)) * counts
    total = weight.sum(dim=0)
    return torch.where(counts, weight * error, 0.0).sum(dim=0) / torch.where(total > 0, total, 1.0)


def mean_terms(
    what: str, errors_BK: Tensor, counts_BK: Tensor, weight_B: Tensor, funnel: Funnel
) -> list[Term]:
    """The ``mean`` of every objective, as all of its loss.

    Args:
        what: these terms are.
        errors_BK: in the order of the funnel.
        counts_BK: as in ``mean``.
        weight_B: likewise.
        funnel: the tree.
    """
    losses_K = mean(errors_BK, counts_BK, weight_B)
    return [
        Term(f"{o.name}: {what}", k, loss) for k, (o, loss) in enumerate(zip(funnel, losses_K, strict=True))
    ]
