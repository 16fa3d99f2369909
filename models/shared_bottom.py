"""Hard sharing: one network for all objectives, a tower for each on top.

Shapes: B rows, X input width, H output width of the bottom, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class SharedBottom(Architecture):
    """One network for all objectives, a tower for each on top.

    Equation: ``logit_h = tower_h(bottom(x))``.
    Source: Caruana, Multitask Learning, Machine Learning 28, 1997, in the form used as the baseline of
    MMoE (KDD 2018, equation 1).
    Use: as the cheap baseline, where objectives agree.
    Cost: one network and H small towers.

    Args:
        entry: layout of the input.
        heads: the logits.
        bottom: widths of the shared network.
        layers: hidden widths of a tower.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        bottom: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.bottom = Networks(entry.width, bottom, per_group=1, generator=generator)
        self.towers = ObjectiveTowers(bottom[-1], len(heads), layers, same_input=True, generator=generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        logits_BH: Tensor = self.towers(self.bottom(inputs.x_SBX))
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """The bottom."""
        return list(self.bottom.parameters())

    def last_shared(self) -> nn.Parameter:
        """Weight of the bottom's last layer."""
        weight: nn.Parameter = self.bottom.weights[-1]
        return weight
