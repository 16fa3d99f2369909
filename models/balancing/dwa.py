"""DWA: an objective whose loss falls slowly weighs more.

Shapes: K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.balancing.base import Balancer, Leaves


class DWA(Balancer):
    """Weights from how much each loss fell between the last two windows of steps.

    The paper compares epochs; a line that sees every day once has none, so windows of steps stand for them.
    The loss of a window is its mean over the batches in which the objective had a row (loss not exactly 0).
    An objective without any in a window keeps its mean, which says that nothing fell. Windows go on from day
    to day.

    Equation: ``w_k = K softmax_k(L_k(t-1) / L_k(t-2) / T)``; all 1 until two windows are full.
    Source: Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019 (dynamic weight average);
    equation after TorchJD.
    Use: as a cheap way to equal pace; T decides how much.
    Cost: none.

    Args:
        num_objectives: K.
        num_shared: not looked at.
        window: steps of a window, above 0.
        temperature: T, above 0; large makes weights equal.

    Raises:
        ValueError: a setting is not above 0.
    """

    window_K: Tensor
    count_K: Tensor
    means_2K: Tensor
    steps: Tensor

    def __init__(
        self, num_objectives: int, num_shared: int, *, window: int = 100, temperature: float = 2.0
    ) -> None:
        del num_shared
        super().__init__()
        if min(window, temperature) <= 0:
            raise ValueError(f"Window and temperature must be above 0, got {window} and {temperature}.")
        self.window, self.temperature = window, temperature
        self.register_buffer("window_K", torch.zeros(num_objectives))
        self.register_buffer("count_K", torch.zeros(num_objectives, dtype=torch.int64))
        # of the last full window and the one before it; 0 where an objective had no row yet
        self.register_buffer("means_2K", torch.zeros(2, num_objectives))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def weights(self) -> Tensor:
        """Weights of the next batch, shape (K,)."""
        last_K, before_K = self.means_2K
        if self.steps < 2 * self.window:
            return torch.ones_like(last_K)
        known_K = before_K != 0
        fell_K = torch.where(known_K, last_K / torch.where(known_K, before_K, 1.0), 1.0)
        return len(fell_K) * torch.softmax(fell_K / self.temperature, dim=0)

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        return (self.weights() * losses_K).sum()

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf, and note the losses."""
        total = super().backward(losses_K, leaves)
        self._note(losses_K.detach())
        return total

    @torch.no_grad()
    def _note(self, losses_K: Tensor) -> None:
        present_K = losses_K != 0
        self.count_K += present_K
        move_K = (losses_K - self.window_K) / self.count_K.clamp(min=1)
        self.window_K += torch.where(present_K, move_K, 0.0)
        self.steps += 1
        if self.steps % self.window == 0:
            last_K = torch.where(self.count_K > 0, self.window_K, self.means_2K[0])
            self.means_2K.copy_(torch.stack((last_K, self.means_2K[0])))
            self.window_K.zero_()
            self.count_K.zero_()
