"""PLE's schedule: every weight grows or shrinks geometrically, by the batch or by the day.

Shapes: K objectives.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.balancing.base import Balancer, Leaves


class Schedule(Balancer):
    """Weighted sum with weights that change by a constant factor.

    The paper updates after every step and calls its exponent an epoch, so the unit is a setting. The count
    is part of the state: it goes on from day to day.

    Equation: ``L = sum_k w_k g_k ** t L_k``.
    Source: Tang et al., Progressive Layered Extraction, RecSys 2020 (its loss weights).
    Use: to let one objective lead at first, and another later.
    Cost: none.

    Args:
        num_objectives: K.
        num_shared: not looked at.
        weights: w, one per objective in the order of the funnel; all 1 if absent.
        factors: g, above 0; all 1 if absent.
        unit: what t counts: batches learned before, or days begun before.

    Raises:
        ValueError: another number of weights or factors than objectives, or one out of range.
    """

    weight_K: Tensor
    factor_K: Tensor
    count: Tensor

    def __init__(
        self,
        num_objectives: int,
        num_shared: int,
        *,
        weights: tuple[float, ...] | None = None,
        factors: tuple[float, ...] | None = None,
        unit: Literal["step", "day"] = "step",
    ) -> None:
        del num_shared
        super().__init__()
        weights = (1.0,) * num_objectives if weights is None else weights
        factors = (1.0,) * num_objectives if factors is None else factors
        if {len(weights), len(factors)} != {num_objectives} or min(weights) < 0 or min(factors) <= 0:
            raise ValueError(
                f"Expected {num_objectives} weights that are not negative and factors above 0, "
                f"got {weights} and {factors}."
            )
        self.unit = unit
        self.register_buffer("weight_K", torch.tensor(weights), persistent=False)
        self.register_buffer("factor_K", torch.tensor(factors), persistent=False)
        # of days, the first that begins is day 0
        self.register_buffer("count", torch.tensor(0 if unit == "step" else -1))

    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""
        return (self.weight_K * self.factor_K ** self.count.clamp(min=0) * losses_K).sum()

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf, and count the batch."""
        total = super().backward(losses_K, leaves)
        if self.unit == "step":
            self.count += 1
        return total

    def begin_day(self) -> None:
        """Count the day."""
        if self.unit == "day":
            self.count += 1
