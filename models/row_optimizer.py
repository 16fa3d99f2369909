"""The one contract of every optimiser of the packed table: it looks only at the rows of the batch.

Shapes: N looked-up positions or rows to reset, R rows of the table, D numbers per vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class RowOptimizer(ABC):
    """Moves the rows that a batch touched; work and memory traffic of a step depend on N, never on R.

    A subclass is constructed as ``cls(weight_RD, *, rate, <flat settings>)`` and changes the table in place.
    """

    weight_RD: Tensor

    @abstractmethod
    def step(self, rows_N: Tensor, grad_ND: Tensor) -> None:
        """Move the rows of the batch; the padding row never moves.

        Args:
            rows_N: table row of each looked-up position, int64, with repeats.
            grad_ND: gradient of the loss with respect to each looked-up vector, in the dtype of that.
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The live state by name; every tensor has R rows."""

    @torch.no_grad()
    def reset(self, rows_N: Tensor) -> None:
        """Forget what is known of rows; their next step is a first one.

        Raises:
            IndexError: a row is negative or not below R.
        """
        for tensor in self.state().values():
            tensor.index_copy_(0, rows_N, torch.zeros_like(tensor.index_select(0, rows_N)))
