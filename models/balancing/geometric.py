"""The geometric mean of the losses, which no unit of a loss can sway.

Shapes: K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.balancing.base import Balancer


class Geometric(Balancer):
    """Geometric mean over the objectives that have a row in the batch.

    Its gradient weighs every objective by the inverse of its loss, times the mean itself.

    Equation: ``L = (prod_k L_k) ** (1 / K)``.
    Source: Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for
    Multi-Task Learning, CVPR Workshops 2019 (GLS).
    Use: where losses differ by orders of magnitude and nothing is to be learned or tuned.
    Cost: none.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
    """

    def __init__(self, num_objectives: int, num_shared: int) -> None:
        del num_objectives, num_shared
        super().__init__()

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar; 0 if no objective has a row."""
        present_K = losses_K.detach() != 0
        if not present_K.any():
            return losses_K.sum()
        return torch.where(present_K, losses_K, 1.0).log().sum().div(present_K.sum()).exp()
