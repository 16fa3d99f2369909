"""Row-wise Adagrad: one number beside every row of the table.

Shapes: N looked-up positions, U distinct rows among them, R rows of the table, D numbers per vector.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.batch import PADDING_ROW
from models.huge_pages import zeros_beside
from models.lazy_adam import sum_per_row
from models.native.rows import move_rows, moves
from models.row_optimizer import RowOptimizer


class RowWiseAdagrad(RowOptimizer):
    """Steps of a row shrink with the root of all that its gradients have been so far.

    Often seen ids come to rest, rarely seen ones go on with large steps; nothing is ever forgotten, which
    suits ids whose meaning stays and not those that drift. The padding row never moves. The rate is another
    than Adam's: the first step of a row is of that size, later ones are smaller.

    Equation: ``G <- G + mean_D(g^2)``; ``w -= rate g / (sqrt(G) + e)``.
    Source: Duchi, Hazan, Singer, Adaptive Subgradient Methods, JMLR 12, 2011, with one sum per row as in the
    row-wise Adagrad of PyTorch's FBGEMM.
    Use: where memory or the time of a step counts, at a rate of 0.02 to 0.1.
    Cost: one number per row.

    Args:
        weight_RD: the table; changed in place.
        rate: step size.
        epsilon: added to the root of the sum.
    """

    def __init__(self, weight_RD: Tensor, *, rate: float, epsilon: float = 1e-8) -> None:
        self.weight_RD = weight_RD
        self.rate, self.epsilon = rate, epsilon
        self.sum_R = zeros_beside(weight_RD)

    @torch.no_grad()
    def step(self, rows_N: Tensor, grad_ND: Tensor) -> None:
        """Move the rows of the batch.

        Args:
            rows_N: table row of each looked-up position, int64, with repeats.
            grad_ND: gradient of the loss with respect to each looked-up vector.
        """
        state = self.sum_R, self.weight_RD
        if moves(grad_ND, *state):
            rates = self.rate, self.epsilon
            move_rows("row_wise_adagrad", rows_N, grad_ND, rates=rates, state=state)
            return
        rows_U, grad_UD = sum_per_row(rows_N, grad_ND.to(self.weight_RD.dtype))
        if len(rows_U) and rows_U[0] == PADDING_ROW:
            rows_U, grad_UD = rows_U[1:], grad_UD[1:]
        sum_U = self.sum_R.index_select(0, rows_U).add_(grad_UD.square().mean(dim=1))
        self.sum_R.index_copy_(0, rows_U, sum_U)
        rate_U1 = sum_U.sqrt_().add_(self.epsilon).reciprocal_().mul_(self.rate).unsqueeze(1)
        moved_UD = self.weight_RD.index_select(0, rows_U).addcmul_(grad_UD, rate_U1, value=-1)
        self.weight_RD.index_copy_(0, rows_U, moved_UD)

    def state(self) -> dict[str, Tensor]:
        """The live state by name: the sum of every row."""
        return {"sum_R": self.sum_R}
