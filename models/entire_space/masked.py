"""Masked losses: every objective is learned in its own space, the rows where its parent happened.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from features.funnel import Funnel
from models.entire_space.base import EntireSpace


class Masked(EntireSpace):
    """Cross-entropy of the conditional probability, on the rows whose parent's label is 1.

    It is the CVR model that ESMM calls BASE (SIGIR 2018, section 3.2), and PLE's loss with the space
    indicator of each objective (RecSys 2020, equation 8).
    """

    own_space: ClassVar[bool] = True

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Rows to be learned that lie in the objective's space, bool, shape (B, K)."""
        columns = []
        for k, objective in enumerate(funnel):
            parent = funnel.parent_index(objective)
            inside_B = trains_BK[:, k]
            columns.append(inside_B if parent is None else inside_B & (y_BK[:, parent] == 1))
        return torch.stack(columns, dim=1)

    def errors(self, logits_BK: Tensor, y_BK: Tensor, funnel: Funnel) -> Tensor:
        """Conditional cross-entropy in nats, shape (B, K)."""
        return binary_cross_entropy_with_logits(logits_BK, y_BK, reduction="none")
