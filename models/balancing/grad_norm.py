"""GradNorm: weights are learned so that all objectives train at the same pace.

Shapes: K objectives.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.balancing.base import Balancer, Leaves

_LEAST = 1e-3
"""A weight never falls below it: Adam may step past zero, and a negative weight would unlearn."""


class GradNorm(Balancer):
    """Equal norms of the weighted gradients at the last shared layer, more for objectives that lag behind.

    The rate of an objective is its loss over that of its first batch, over the mean of these ratios. The
    gradient of the paper's second loss with respect to a weight needs no second derivative: the norm is
    linear in the weight. An objective without a row in the batch (loss exactly 0) is left out.

    Equation: ``min_w sum_k |w_k n_k - mean_j(w_j n_j) r_k ** alpha|`` with ``n_k = |grad_W L_k|`` and the
    target held fixed; ``sum_k w_k = K``.
    Source: Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing, ICML 2018,
    Algorithm 1.
    Use: where one objective overwhelms the shared layers.
    Cost: K partial backward passes, to the last shared layer.

    Args:
        num_objectives: K.
        num_shared: not looked at.
        alpha: how strongly a slow objective is pulled along, not negative.

    Raises:
        ValueError: alpha is negative.
    """

    compares: ClassVar[bool] = True
    first_K: Tensor

    def __init__(self, num_objectives: int, num_shared: int, *, alpha: float = 1.5) -> None:
        del num_shared
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha must not be negative, got {alpha}.")
        self.alpha = alpha
        self.weight_K = nn.Parameter(torch.ones(num_objectives))
        self.register_buffer("first_K", torch.zeros(num_objectives))

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        return (self.weight_K.detach() * losses_K).sum()

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf, and that of the weights.

        Raises:
            ValueError: the last shared layer is not given.
        """
        if leaves.last is None:
            raise ValueError("GradNorm compares gradients at the last shared layer, and none is given.")
        with torch.no_grad():
            self.weight_K.clamp_(min=_LEAST).mul_(len(losses_K) / self.weight_K.sum())
        norm_K = torch.zeros_like(losses_K)
        for k, loss in enumerate(losses_K.unbind()):
            (grad,) = torch.autograd.grad(loss, leaves.last, retain_graph=True, allow_unused=True)
            norm_K[k] = 0.0 if grad is None else grad.norm()
        total = super().backward(losses_K, leaves)
        self.weight_K.grad = self._weight_gradient(losses_K.detach(), norm_K)
        return total

    @torch.no_grad()
    def _weight_gradient(self, losses_K: Tensor, norm_K: Tensor) -> Tensor:
        present_K = losses_K != 0
        self.first_K.copy_(torch.where((self.first_K == 0) & present_K, losses_K, self.first_K))
        count = present_K.sum().clamp(min=1)
        ratio_K = torch.where(present_K, losses_K / torch.where(present_K, self.first_K, 1.0), 0.0)
        rate_K = ratio_K / (ratio_K.sum() / count).clamp(min=torch.finfo(losses_K.dtype).tiny)
        weighted_K = torch.where(present_K, self.weight_K * norm_K, 0.0)
        target_K = weighted_K.sum() / count * rate_K**self.alpha
        return torch.where(present_K, norm_K * torch.sign(weighted_K - target_K), 0.0)
