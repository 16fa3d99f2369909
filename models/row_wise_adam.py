"""Row-wise Adam: one second moment per row of the table, or one per row and objective.

Shapes: N looked-up positions, U distinct rows among them, R rows of the table, D numbers per vector,
K objectives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.batch import PADDING_ROW
from models.huge_pages import zeros_beside
from models.lazy_adam import sum_per_row
from models.row_optimizer import RowOptimizer


class RowWiseAdam(RowOptimizer):
    """Every gradient of a row is divided by its own running size; then all are added.

    There is no first moment. The second one is the mean over the numbers of a vector, and each row counts,
    per objective, the steps in which a gradient reached it: where the gradient is exactly 0, moment and count
    stay. The padding row never moves.

    Equation: ``v_k <- b v_k + (1 - b) mean_D(g_k^2)``; ``w -= rate sum_k g_k / (sqrt(v_k / c_k) + e)``
    with ``c_k = 1 - b^t_k``.
    Source: Kingma, Ba, Adam, ICLR 2015, with a first decay of 0; moments per row as in the row-wise Adagrad
    of PyTorch's FBGEMM; the sum over objectives is that of Yang et al., AdaTask, AAAI 2023.
    Use: where the two numbers that ``LazyAdam`` keeps beside every weight are too many; with ``AdaTask``.
    Cost: K numbers and K counts per row.

    Args:
        weight_RD: the table; changed in place.
        rate: step size.
        objectives: K; gradients then have a leading dimension of that size. 1 without ``AdaTask``.
        beta: decay of the second moment.
        epsilon: added to its root.
    """

    def __init__(
        self,
        weight_RD: Tensor,
        *,
        rate: float,
        objectives: int = 1,
        beta: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.weight_RD = weight_RD
        self.rate, self.beta, self.epsilon = rate, beta, epsilon
        self.square_RK = zeros_beside(weight_RD, objectives)
        self.steps_RK = zeros_beside(weight_RD, objectives, dtype=torch.int32)

    @torch.no_grad()
    def step(self, rows_N: Tensor, grad_ND: Tensor) -> None:
        """Move the rows of the batch.

        Args:
            rows_N: table row of each looked-up position, int64, with repeats.
            grad_ND: gradient with respect to each looked-up vector, shape (N, D), or (K, N, D) by objective.
        """
        objectives = self.square_RK.shape[1]
        grad_NKD = grad_ND.reshape(objectives, len(rows_N), self.weight_RD.shape[1]).transpose(0, 1)
        rows_U, flat_UE = sum_per_row(rows_N, grad_NKD.flatten(1).to(self.weight_RD.dtype))
        if len(rows_U) and rows_U[0] == PADDING_ROW:
            rows_U, flat_UE = rows_U[1:], flat_UE[1:]
        grad_UKD = flat_UE.view(len(rows_U), objectives, self.weight_RD.shape[1])
        size_UK = grad_UKD.square().mean(dim=2)
        reached_UK = size_UK > 0
        square_UK = self.square_RK.index_select(0, rows_U)
        square_UK.lerp_(size_UK, reached_UK.to(square_UK.dtype) * (1 - self.beta))
        steps_UK = self.steps_RK.index_select(0, rows_U).add_(reached_UK)
        self.square_RK.index_copy_(0, rows_U, square_UK)
        self.steps_RK.index_copy_(0, rows_U, steps_UK)

        # 1 - beta ** t by expm1, because beta ** t is near 1 when a row is new; without a step any will do
        missing_UK = torch.expm1(steps_UK.clamp(min=1).to(square_UK.dtype) * math.log(self.beta)).neg_()
        rate_UK1 = self.rate / (square_UK.div_(missing_UK).sqrt_().add_(self.epsilon)).unsqueeze(2)
        update_UD = (grad_UKD * rate_UK1).sum(dim=1)
        self.weight_RD.index_copy_(0, rows_U, self.weight_RD.index_select(0, rows_U).sub_(update_UD))

    def state(self) -> dict[str, Tensor]:
        """The live state by name: second moment and step count of every row and objective."""
        return {"square_RK": self.square_RK, "steps_RK": self.steps_RK}
