"""Fixed weights.

Shapes: K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.balancing.base import Balancer


class Static(Balancer):
    """Weighted sum of the losses.

    Args:
        num_objectives: K.
        weights: one weight per objective in the order of the funnel; all 1 if absent.

    Raises:
        ValueError: another number of weights than objectives, or a negative one.
    """

    weight_K: Tensor

    def __init__(self, num_objectives: int, *, weights: tuple[float, ...] | None = None) -> None:
        super().__init__()
        weights = (1.0,) * num_objectives if weights is None else weights
        if len(weights) != num_objectives or min(weights) < 0:
            raise ValueError(f"Expected {num_objectives} weights that are not negative, got {weights}.")
        # a setting, not a state: the recipe decides it anew for every run
        self.register_buffer("weight_K", torch.tensor(weights), persistent=False)

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        return (self.weight_K * losses_K).sum()
