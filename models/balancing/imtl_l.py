"""IMTL-L: scales are learned so that every scaled loss is the same.

Shapes: K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.balancing.base import Balancer


class IMTLL(Balancer):
    """Learned log-scales, at rest the negative logarithm of the loss.

    An objective without a row in the batch (loss exactly 0) has no say, as in ``Uncertainty``.

    Equation: ``L = sum_k exp(s_k) L_k - s_k``.
    Source: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021 (IMTL-L).
    Use: as ``Uncertainty``, with twice its weights.
    Cost: K parameters.

    Args:
        num_objectives: K.
        num_shared: not looked at.
    """

    def __init__(self, num_objectives: int, num_shared: int) -> None:
        del num_shared
        super().__init__()
        self.log_scale_K = nn.Parameter(torch.zeros(num_objectives))

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        present_K = losses_K.detach() != 0
        terms_K = torch.exp(self.log_scale_K) * losses_K - self.log_scale_K
        return torch.where(present_K, terms_K, 0.0).sum()
