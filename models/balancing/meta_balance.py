"""MetaBalance: gradients of auxiliary objectives are brought to the size of the target's.

Shapes: K objectives, S shared parameters, M = S + 1 blocks: they and the vectors of the batch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models.balancing.base import Balancer, Leaves, by_objective, weighted_sum


class MetaBalance(Balancer):
    """In every block of parameters, auxiliary gradients are scaled towards the target's running norm.

    Blocks are each shared parameter, and the vectors of the batch together. The gradient of the target stays
    as it is, and own parameters get the plain sum. A norm is counted only in batches in which the objective
    reaches the block; where it or the target has not done so yet, nothing is scaled.

    Equation: ``m_k <- b m_k + (1 - b) |g_k|``; ``g_k <- r (m_target / m_k) g_k + (1 - r) g_k``.
    Source: He et al., MetaBalance: Improving Multi-Task Recommendations via Adapting Gradient Magnitudes of
    Auxiliary Tasks, WWW 2022.
    Use: where one objective is the aim and the others are there to help it.
    Cost: K backward passes, and K gradients in memory.

    Args:
        num_objectives: K.
        num_shared: S.
        target: place of the target objective in the funnel; the last one if absent.
        beta: b, in [0, 1).
        relax: r, in [0, 1]; 0 is the plain sum.

    Raises:
        ValueError: a setting is out of range.
    """

    compares: ClassVar[bool] = True
    norm_MK: Tensor

    def __init__(
        self,
        num_objectives: int,
        num_shared: int,
        *,
        target: int | None = None,
        beta: float = 0.9,
        relax: float = 0.7,
    ) -> None:
        super().__init__()
        self.target = num_objectives - 1 if target is None else target
        if not 0 <= self.target < num_objectives or not 0 <= beta < 1 or not 0 <= relax <= 1:
            raise ValueError(
                f"Expected a target below {num_objectives}, beta in [0, 1) and relax in [0, 1], "
                f"got {self.target}, {beta} and {relax}."
            )
        self.beta, self.relax = beta, relax
        self.register_buffer("norm_MK", torch.zeros(num_shared + 1, num_objectives))

    def forward(self, losses_K: Tensor) -> Tensor:
        """The plain sum of the losses, shape (K,): it is logged, and own parameters follow it."""
        return losses_K.sum()

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf."""
        found = by_objective(losses_K, leaves)
        with torch.no_grad():
            factor_MK = self._factors(losses_K != 0, found).tolist()
            blocks = zip((*leaves.shared, leaves.vectors), zip(*found, strict=True), factor_MK, strict=True)
            for leaf, grads_K, factor_K in blocks:
                leaf.grad = weighted_sum(grads_K, factor_K)
        return self(losses_K.detach())  # type: ignore[no-any-return]

    def _factors(self, with_rows_K: Tensor, found: list[list[Tensor]]) -> Tensor:
        """What each gradient is multiplied with, shape (M, K)."""
        now_MK = torch.stack([torch.stack(torch._foreach_norm(grads)) for grads in found], dim=1)
        moved_MK = torch.lerp(self.norm_MK, now_MK.to(self.norm_MK.dtype), 1 - self.beta)
        # a norm that is not finite is refused by the line, and must not stay behind here
        counts_MK = with_rows_K & (now_MK > 0) & torch.isfinite(now_MK)
        self.norm_MK.copy_(torch.where(counts_MK, moved_MK, self.norm_MK))
        target_M1 = self.norm_MK[:, self.target].unsqueeze(1)
        known_MK = (self.norm_MK > 0) & (target_M1 > 0)
        ratio_MK = torch.where(known_MK, target_M1 / torch.where(known_MK, self.norm_MK, 1.0), 1.0)
        # exactly 1 for the target
        return 1 + self.relax * (ratio_MK - 1)
