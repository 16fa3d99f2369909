"""Separate towers: the objectives share the embeddings and nothing else.

Shapes: B rows, X input width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class Towers(Architecture):
    """One network per objective on top of the shared embeddings.

    Equation: ``logit_h = tower_h(x)``.
    Source: Ma et al., Entire Space Multi-Task Model, SIGIR 2018, Figure 2: what ESMM's CTR and CVR
    networks look like. The paper's towers are 360-200-80.
    Use: with ESMM, or where objectives disturb each other in shared layers.
    Cost: H networks.

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
        self.towers = ObjectiveTowers(entry.width, len(heads), layers, same_input=True, generator=generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        logits_BH: Tensor = self.towers(inputs.x_SBX)
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """None: only the embeddings below are shared."""
        return []
