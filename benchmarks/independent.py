"""Two objectives that are not given one another, for benchmarks whose published rows are of that kind.

Shapes: B rows, K objectives, H = K heads.

A funnel of ours has a click and a conversion that is given the click. Two answers to a questionnaire, or two
sums of sines, are no funnel; only the names of one are borrowed here. The network, the balancer, the
optimisers and the line are those of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from features.funnel import Funnel, Objective
from models.entire_space.base import EntireSpace, Labels, Term, mean


def funnel_of(first: str, second: str) -> Funnel:
    """Names for two objectives; networks that hand knowledge down hand it from the first to the second."""
    now = timedelta(0)
    return Funnel(
        (
            Objective(name=first, log=first, window=now),
            Objective(name=second, log=second, given=first, window=now),
        ),
        click=first,
        conversion=second,
    )


class Independent(EntireSpace):
    """Every objective is learned on all rows by cross-entropy, whatever the others say.

    Equation: ``L_k = mean e(y_k, sigmoid(logit_k))``.
    Source: the losses of MMoE (Ma et al., KDD 2018), which knows no space but the whole.
    Use: where objectives stand side by side.
    Cost: none.
    """

    chained: ClassVar[bool] = False

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every row to be learned."""
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """The mean error of every objective."""
        errors_BK = self.errors(logits_BH, labels.known_BK)
        return [
            Term(o.name, k, mean(errors_BK[:, k], labels.trains_BK[:, k], labels.weight_B))
            for k, o in enumerate(funnel)
        ]

    def errors(self, logits_BK: Tensor, y_BK: Tensor) -> Tensor:
        """Error of every row, shape (B, K)."""
        return binary_cross_entropy_with_logits(logits_BK, y_BK, reduction="none")

    def log_probabilities(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Both are ``log P(y_k = 1)`` of a person; nothing is given anything."""
        found_BK = logsigmoid(logits_BH)
        return found_BK, found_BK


class Squared(Independent):
    """The same with squared errors: what ``Objectives`` makes of the kind ``value``.

    A funnel cannot be of values alone (its click and its conversion are probabilities), and two heads more
    than the two that are compared would be other networks.

    Equation: ``L_k = mean (f_k - y_k) ** 2``.
    Source: MMoE (Ma et al., KDD 2018, section 3.3): regression on synthetic data.
    Use: where both objectives are values.
    Cost: none.
    """

    def errors(self, logits_BK: Tensor, y_BK: Tensor) -> Tensor:
        """Squared error of every row, shape (B, K)."""
        return (logits_BK - y_BK).square()

    def log_probabilities(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """The values themselves: there is no probability, and a line hands on what is said here."""
        return logits_BH, torch.zeros_like(logits_BH)
