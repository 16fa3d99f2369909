"""Separate towers: the objectives share the embeddings and nothing else.

Shapes: B rows, D input width, K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import ObjectiveTowers


class Towers(Architecture):
    """One network per objective on top of the shared embeddings.

    Source: Ma et al., Entire Space Multi-Task Model, SIGIR 2018, Figure 2: what ESMM's CTR and CVR
    networks look like. The paper's towers are 360-200-80.

    Args:
        width: D.
        num_objectives: K.
        layers: hidden widths of a tower.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        num_objectives: int,
        *,
        layers: tuple[int, ...] = (256, 128, 64),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.towers = ObjectiveTowers(width, num_objectives, layers, same_input=True, generator=generator)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Logits of each objective given its parent, shape (B, K)."""
        logits_BK: Tensor = self.towers(x_BD.unsqueeze(0))
        return logits_BK

    def shared_parameters(self) -> list[nn.Parameter]:
        """None: only the embeddings below are shared."""
        return []
