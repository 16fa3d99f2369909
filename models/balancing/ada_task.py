"""AdaTask: every objective has an Adam of its own for what it shares with others.

Shapes: K objectives, B rows, P looked-up positions, D numbers per vector, R rows of the table.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.balancing.base import Balancer, Leaves, by_objective
from models.balancing.per_objective_adam import PerObjectiveAdamW
from models.row_optimizer import RowOptimizer
from models.row_wise_adam import RowWiseAdam


class AdaTask(Balancer):
    """Shared parameters take the sum of K adaptive steps, so that a large gradient cannot drown a small one.

    Own parameters are moved by plain Adam. Rows of the table keep one second moment per objective, not the
    paper's two moments per weight and objective: ``RowWiseAdam``, whatever optimiser the recipe names. An
    objective without a row in the batch (loss exactly 0) takes no step.

    Equation: ``w -= rate sum_k m_k / (sqrt(v_k) + e)`` with bias-corrected moments of each gradient.
    Source: Yang et al., AdaTask: A Task-Aware Adaptive Learning Rate Approach to Multi-Task Learning,
    AAAI 2023 (AdaTask with Adam).
    Use: where one objective's gradients set the step sizes of all.
    Cost: K backward passes, K gradients in memory, 2 K numbers beside every shared weight, K numbers and K
    counts per row of the table.

    Args:
        num_objectives: K.
        num_shared: not looked at.
    """

    def __init__(self, num_objectives: int, num_shared: int) -> None:
        del num_shared
        super().__init__()
        self.num_objectives = num_objectives
        # of the batch at hand: made by backward, taken by the optimisers
        self._shared: list[Tensor] = []
        self._vectors_KBPD: Tensor | None = None
        self._present_K = torch.ones(num_objectives, dtype=torch.bool)

    def forward(self, losses_K: Tensor) -> Tensor:
        """The plain sum of the losses, shape (K,): it is logged, and own parameters follow it."""
        return losses_K.sum()

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf with the plain sum, and keep what each objective gives to it."""
        found = by_objective(losses_K, leaves)
        stacked = [torch.stack(grads_K) for grads_K in zip(*found, strict=True)]
        for leaf, grad_K in zip((*leaves.shared, leaves.vectors), stacked, strict=True):
            leaf.grad = grad_K.sum(dim=0)
        self._shared, self._vectors_KBPD = stacked[:-1], stacked[-1]
        self._present_K = losses_K.detach() != 0
        return self(losses_K.detach())  # type: ignore[no-any-return]

    def vectors_gradient(self, leaves: Leaves) -> Tensor | None:
        """The gradient of the vectors by objective, shape (K, B, P, D)."""
        del leaves
        return self._vectors_KBPD

    def dense_optimizer(self, leaves: Leaves, *, rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """AdamW with moments per objective for what is shared, with its state made."""
        return PerObjectiveAdamW(
            [{"params": [*leaves.shared, *leaves.own], "weight_decay": weight_decay}],
            leaves.shared,
            self.num_objectives,
            rate=rate,
            gradients=lambda: (self._shared, self._present_K),
        )

    def row_optimizer(
        self, build: Callable[..., RowOptimizer], weight_RD: Tensor, rate: float
    ) -> RowOptimizer:
        """Row-wise Adam with moments per objective; ``build`` knows no objectives."""
        del build
        return RowWiseAdam(weight_RD, rate=rate, objectives=self.num_objectives)
