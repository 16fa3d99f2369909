"""Fixed weights.

Shapes: K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.balancing.base import Balancer


class Static(Balancer):
    """Weighted sum of the losses.

    Equation: ``L = sum_k w_k L_k``.
    Source: the plain sum of most multi-task systems; Xin et al., Do Current Multi-Task Optimization Methods
    in Deep Learning Even Help?, NeurIPS 2022, find that tuned fixed weights are hard to beat.
    Use: as the default; tune the weights of rare objectives down when their noise costs the others.
    Cost: none.

    Args:
        num_objectives: K.
        num_shared: not looked at.
        weights: one weight per objective in the order of the funnel; all 1 if absent.

    Raises:
        ValueError: another number of weights than objectives, or a negative one.
    """

    weight_K: Tensor

    def __init__(
        self, num_objectives: int, num_shared: int, *, weights: tuple[float, ...] | None = None
    ) -> None:
        del num_shared
        super().__init__()
        weights = (1.0,) * num_objectives if weights is None else weights
        if len(weights) != num_objectives or min(weights) < 0:
            raise ValueError(f"Expected {num_objectives} weights that are not negative, got {weights}.")
        # a setting, not a state: the recipe decides it anew for every run
        self.register_buffer("weight_K", torch.tensor(weights), persistent=False)

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        return (self.weight_K * losses_K).sum()
