"""Hard sharing: one network for all objectives, a tower for each on top.

Shapes: B rows, D input width, H output width of the bottom, K objectives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers


class SharedBottom(Architecture):
    """``logit_k = tower_k(bottom(x))``.

    Source: Caruana, Multitask Learning, Machine Learning 28, 1997, in the form used as the baseline of
    MMoE (KDD 2018, equation 1).

    Args:
        width: D.
        num_objectives: K.
        bottom: widths of the shared network.
        layers: hidden widths of a tower.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        num_objectives: int,
        *,
        bottom: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.bottom = Networks(width, bottom, per_group=1, generator=generator)
        self.towers = ObjectiveTowers(
            bottom[-1], num_objectives, layers, same_input=True, generator=generator
        )

    def forward(self, x_BD: Tensor) -> Tensor:
        """Logits of each objective given its parent, shape (B, K)."""
        logits_BK: Tensor = self.towers(self.bottom(x_BD.unsqueeze(0)))
        return logits_BK

    def shared_parameters(self) -> list[nn.Parameter]:
        """The bottom."""
        return list(self.bottom.parameters())
