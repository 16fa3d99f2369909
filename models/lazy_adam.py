"""Adam that looks only at the table rows of the batch.

Shapes: N looked-up positions or rows to reset, U distinct rows among them, R rows of the table,
D numbers per vector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.batch import PADDING_ROW
from models.huge_pages import zeros_beside
from models.native.rows import move_rows, moves
from models.row_optimizer import RowOptimizer
from models.stable_order import stable_order


class LazyAdam(RowOptimizer):
    """Adam applied to the rows that a batch touched.

    Each row has its own step count, so the bias correction of an id that appears for the first time is
    that of a first step, however long the table has been trained. Gradients of the same row are summed
    before the update, in the order of the batch, so results repeat to the bit. The padding row never
    moves. Work and memory traffic of a step depend on N, never on R.

    Equation: ``w -= rate m / (sqrt(v) + epsilon)`` with bias-corrected moments.
    Source: Kingma, Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, Algorithm 1.
    Use: as the default.
    Cost: two numbers beside every weight, and a count per row.

    Args:
        weight_RD: the table; changed in place.
        rate: step size.
        betas: decay of the first and second moment.
        epsilon: added to the root of the second moment.
    """

    def __init__(
        self,
        weight_RD: Tensor,
        *,
        rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.weight_RD = weight_RD
        self.rate, self.betas, self.epsilon = rate, betas, epsilon
        self.moment_RD = zeros_beside(weight_RD, *weight_RD.shape[1:])
        self.square_RD = zeros_beside(weight_RD, *weight_RD.shape[1:])
        self.steps_R = zeros_beside(weight_RD, dtype=torch.int32)

    @torch.no_grad()
    def step(self, rows_N: Tensor, grad_ND: Tensor) -> None:
        """Move the rows of the batch.

        Args:
            rows_N: table row of each looked-up position, int64, with repeats.
            grad_ND: gradient of the loss with respect to each looked-up vector.
        """
        wide = self.moment_RD, self.square_RD, self.weight_RD
        if moves(grad_ND, *wide):
            rates, state = (self.rate, *self.betas, self.epsilon), (self.steps_R, *wide)
            move_rows("lazy_adam", rows_N, grad_ND, rates=rates, state=state)
            return
        rows_U, grad_UD = sum_per_row(rows_N, grad_ND.to(self.weight_RD.dtype))
        if len(rows_U) and rows_U[0] == PADDING_ROW:
            rows_U, grad_UD = rows_U[1:], grad_UD[1:]
        decay, decay_square = self.betas
        steps_U = self.steps_R[rows_U] + 1
        moment_UD = self.moment_RD.index_select(0, rows_U).lerp_(grad_UD, 1 - decay)
        square_UD = self.square_RD.index_select(0, rows_U).mul_(decay_square)
        square_UD.addcmul_(grad_UD, grad_UD, value=1 - decay_square)
        self.steps_R[rows_U] = steps_U
        self.moment_RD.index_copy_(0, rows_U, moment_UD)
        self.square_RD.index_copy_(0, rows_U, square_UD)

        # 1 - beta ** t for every row, by expm1 because beta ** t is near 1 when a row is new
        steps_U1 = steps_U.to(square_UD.dtype).unsqueeze(1)
        root_U1 = torch.expm1(steps_U1 * math.log(decay_square)).neg_().sqrt_()
        rate_U1 = root_U1 / torch.expm1(steps_U1 * math.log(decay)).neg_() * self.rate
        update_UD = moment_UD.mul_(rate_U1).div_(square_UD.sqrt_().add_(root_U1, alpha=self.epsilon))
        self.weight_RD.index_copy_(0, rows_U, self.weight_RD.index_select(0, rows_U).sub_(update_UD))

    def state(self) -> dict[str, Tensor]:
        """The live state by name: both moments and the step count of every row."""
        return {"moment_RD": self.moment_RD, "square_RD": self.square_RD, "steps_R": self.steps_R}


def sum_per_row(rows_N: Tensor, grad_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows in ascending order, shape (U,), and the sum of their gradients, shape (U, D).

    A sort and one segmented sum take about half the time of ``unique`` and a scatter, and add in a fixed
    order, that of the batch.
    """
    sorted_N, order_N = _by_row(rows_N)
    rows_U, count_U = torch.unique_consecutive(sorted_N, return_counts=True)
    start_U = count_U.cumsum(0) - count_U
    return rows_U, functional.embedding_bag(order_N, grad_ND, start_U, mode="sum")


def _by_row(rows_N: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in ascending order and where each stood, equal ones in their order, int64."""
    if rows_N.device.type != "cpu":
        return torch.sort(rows_N, stable=True)
    order_N = stable_order(rows_N)
    return rows_N.index_select(0, order_N), order_N
