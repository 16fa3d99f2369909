"""FAMO: weights are learned from how much each loss fell by the last step.

Shapes: K objectives.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models.balancing.base import Balancer

_LEAST = 1e-8
"""Losses are counted as at least this: their logarithm is taken."""
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class FAMO(Balancer):
    """Descends the logarithms of the losses, with more weight for those that fell least.

    After every step the losses of the same batch are taken again, and the logits of the weights move by a
    step of Adam, whose moments are part of the state. An objective without a row in the batch (loss exactly
    0) is left out.

    Equation: ``L = c sum_k z_k log L_k``, ``z = softmax(s)``, ``c = 1 / sum_k (z_k / L_k)`` held fixed; then
    ``ds = J_softmax(s)^T (log L_k(before) - log L_k(after)) + decay s``.
    Source: Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, Algorithm 2; equation and
    constants after TorchJD.
    Use: as ``MGDA`` or ``NashMTL`` without gradients of every objective.
    Cost: a second forward pass of every batch.

    Args:
        num_objectives: K.
        num_shared: not looked at.
        rate: step size of the logits.
        decay: pull of the logits towards 0, that is of the weights towards each other.

    Raises:
        ValueError: a setting is negative.
    """

    second_pass: ClassVar[bool] = True
    logit_K: Tensor
    moment_K: Tensor
    square_K: Tensor
    steps: Tensor

    def __init__(
        self, num_objectives: int, num_shared: int, *, rate: float = 0.025, decay: float = 1e-3
    ) -> None:
        del num_shared
        super().__init__()
        if min(rate, decay) < 0:
            raise ValueError(f"Rate and decay must not be negative, got {rate} and {decay}.")
        self.rate, self.decay = rate, decay
        # not parameters: no gradient of the batch reaches them, and their Adam has a rate of its own
        for name in ("logit_K", "moment_K", "square_K"):
            self.register_buffer(name, torch.zeros(num_objectives))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._before_K = torch.zeros(num_objectives)

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar; they are kept for ``after``."""
        self._before_K = losses_K.detach().clone()
        present_K = self._before_K != 0
        if not present_K.any():
            return losses_K.sum()
        weight_K = torch.softmax(self.logit_K, dim=0)
        safe_K = torch.where(present_K, losses_K.clamp(min=_LEAST), 1.0)
        scale = torch.where(present_K, weight_K / safe_K.detach(), 0.0).sum()
        return (weight_K * safe_K.log()).sum() / scale

    @torch.no_grad()
    def after(self, losses_K: Tensor) -> None:
        """Move the logits by what the step did to the losses."""
        present_K = (self._before_K != 0) & (losses_K != 0)
        ratio_K = self._before_K.clamp(min=_LEAST) / losses_K.clamp(min=_LEAST)
        fell_K = torch.where(present_K, ratio_K, 1.0).log()
        weight_K = torch.softmax(self.logit_K, dim=0)
        slope_K = weight_K * (fell_K - weight_K @ fell_K) + self.decay * self.logit_K
        self.steps += 1
        self.moment_K.lerp_(slope_K, 1 - _BETAS[0])
        self.square_K.lerp_(slope_K**2, 1 - _BETAS[1])
        moment_K, square_K = (
            mean_K / (1 - beta ** int(self.steps))
            for mean_K, beta in zip((self.moment_K, self.square_K), _BETAS, strict=True)
        )
        self.logit_K.sub_(self.rate * moment_K / (square_K.sqrt() + _EPSILON))
