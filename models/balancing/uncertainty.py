"""Uncertainty weighting: the weights are learned from the size of the losses.

Shapes: K objectives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.balancing.base import Balancer


class Uncertainty(Balancer):
    """``sum_k c_k exp(-s_k) L_k + s_k / 2`` with a learned log-variance ``s_k``.

    At rest ``c_k exp(-s_k)`` is ``1 / (2 L_k)``: objectives weigh inversely to their loss. The factor of a
    squared error makes ``exp(s_k)`` its variance, and does not change that weight. ``s_k`` is free to
    go negative, which it must for the small cross-entropies of rare objectives. An objective without a
    row in the batch (loss exactly 0) has no say: otherwise ``s_k / 2`` would pull its weight up with
    every batch in which its labels are not final.

    Equation: ``L = sum_k c_k exp(-s_k) L_k + s_k / 2``, ``c_k`` 1 for cross-entropies and 1/2 for squared
    errors.
    Source: Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018,
    equation 10: its classification and regression terms.
    Use: where losses differ by orders of magnitude and nobody has tuned weights.
    Cost: K parameters.

    Args:
        num_objectives: K.
        num_shared: not looked at.
    """

    factor_K: Tensor

    def __init__(self, num_objectives: int, num_shared: int) -> None:
        del num_shared
        super().__init__()
        self.log_variance_K = nn.Parameter(torch.zeros(num_objectives))
        # follows from the funnel, so it is no state
        self.register_buffer("factor_K", torch.ones(num_objectives), persistent=False)

    def told(self, squared: Sequence[bool]) -> None:
        """Halve the weight of squared errors."""
        self.factor_K.copy_(torch.tensor([0.5 if is_squared else 1.0 for is_squared in squared]))

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        present_K = losses_K.detach() != 0
        terms_K = self.factor_K * torch.exp(-self.log_variance_K) * losses_K + self.log_variance_K / 2
        return torch.where(present_K, terms_K, 0.0).sum()
