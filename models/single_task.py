"""One network and one embedding table per objective: nothing is shared.

Shapes: B rows, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class SingleTask(Architecture):
    """A tower per head over vectors of its own; what multi-task learning is measured against.

    With ``ESMM`` it is the paper's ESMM-NS, with ``Masked`` its BASE, with ``Division`` its DIVISION.

    Equation: ``logit_h = tower_h(x_h)``, ``x_h`` from table h.
    Source: Ma et al., Entire Space Multi-Task Model, SIGIR 2018, section 3.2 (ESMM-NS).
    Use: as the reference for the gain of sharing.
    Cost: H networks, and H vectors per id.

    Args:
        entry: layout of the input.
        heads: the logits.
        layers: hidden widths of a tower.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        layers: tuple[int, ...] = (256, 128, 64),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.towers = ObjectiveTowers(entry.width, len(heads), layers, same_input=False, generator=generator)

    @staticmethod
    def spaces(heads: Heads) -> int:
        """One embedding space per head."""
        return len(heads)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        logits_BH: Tensor = self.towers(inputs.x_SBX)
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []
