"""The one contract of every entire-space method: conditional logits to one loss per objective.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from features.funnel import Funnel


class EntireSpace(ABC):
    """Says which rows an objective learns from, and what each of them costs.

    A method that is a weighted mean over its rows implements ``counts`` and ``errors``; one that
    normalises otherwise overrides ``losses``.

    Attributes:
        own_space: every objective is learned by its conditional probability, on rows of its own space
            alone; sampling policies that change that space ask for it.
    """

    own_space: ClassVar[bool] = False

    @abstractmethod
    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Rows that each objective learns from, bool, shape (B, K); a subset of ``trains_BK``."""

    @abstractmethod
    def errors(self, logits_BK: Tensor, y_BK: Tensor, funnel: Funnel) -> Tensor:
        """Negative log-likelihood of every label in nats, shape (B, K)."""

    def losses(
        self, logits_BK: Tensor, y_BK: Tensor, trains_BK: Tensor, weight_B: Tensor, funnel: Funnel
    ) -> Tensor:
        """Weighted mean error over the rows that count, shape (K,).

        The mean of objective k divides by the weight of its own rows, as in PLE (RecSys 2020,
        equation 8), so a rare objective is not drowned by rows that it does not learn from.

        Args:
            logits_BK: logit of each objective given its parent.
            y_BK: labels; where a row does not count they may hold anything, NaN included.
            trains_BK: labels to be learned from.
            weight_B: weights, not negative.
            funnel: the tree.

        Returns:
            One loss per objective. Without any row that counts it is exactly 0, with a gradient of 0.
        """
        counts_BK = self.counts(y_BK, trains_BK, funnel)
        # a NaN label would survive multiplication by a zero weight, in the loss and in its gradient
        known_BK = torch.where(counts_BK, y_BK, 0.0)
        weight_B1 = weight_B.unsqueeze(1)
        errors_BK = self.errors(logits_BK, known_BK, funnel)
        sum_K = torch.where(counts_BK, weight_B1 * errors_BK, 0.0).sum(dim=0)
        total_K = (weight_B1 * counts_BK).sum(dim=0)
        return sum_K / torch.where(total_K > 0, total_K, 1.0)
