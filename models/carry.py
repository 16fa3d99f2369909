"""What a line's optimisers remember of the days before when a new day begins.

Shapes: R rows of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.line import Line


@dataclass(frozen=True)
class Keep:
    """Everything: a day goes on as if it were the same pass."""


@dataclass(frozen=True)
class Decay:
    """What was gathered counts ``gamma`` times as much; how many steps were taken stays known.

    That is every sum and moment. Adagrad's sums only ever grow, and after a hundred days its steps are too
    small to follow what has changed; 0.97 to 0.99 a day keeps them alive. Adam forgets by itself: here new
    gradients weigh more at the beginning of a day.

    Attributes:
        gamma: between 0 and 1, both excluded: these are ``Reset`` and ``Keep``.

    Raises:
        ValueError: another number.
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise ValueError(f"Decay(gamma={self.gamma}): between 0 (Reset) and 1 (Keep), both excluded.")


@dataclass(frozen=True)
class Reset:
    """Nothing: every day's first step is a first step. It wants another, smaller rate than ``Keep``."""


Carry = Keep | Decay | Reset


@torch.no_grad()
def carry(line: Line, *, dense: Carry, embedding: Carry) -> None:
    """Let a line's optimisers forget as much as is asked before its next day.

    Weights, their average, the count of the line's steps and what a balancer remembers stay.

    Args:
        line: as the day before left it.
        dense: of the optimiser of network and balancer.
        embedding: of that of the table, all R rows alike.
    """
    for slots in line.dense_optimizer.state.values():
        _forget(dense, slots)
    _forget(embedding, line.embedding_optimizer.state())


def _forget(policy: Carry, state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if isinstance(policy, Reset):
            tensor.zero_()
        elif isinstance(policy, Decay) and not name.startswith("step"):
            tensor.mul_(policy.gamma)
