"""Customised sharing: a bottom per objective and one for all, side by side under every tower.

Shapes: B rows, X input width, O and P output widths of a bottom of its own and of the shared one, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class Customized(Architecture):
    """Every tower reads a bottom of its own and the one that all share; ``CGC`` weighs them by gates.

    Equation: ``logit_h = tower_h([b_h(x); b_s(x)])``.
    Source: Tang et al., Progressive Layered Extraction, RecSys 2020, section 3.2 and Figure 1c.
    Use: where objectives disturb each other in a shared bottom, and gates are not worth their cost.
    Cost: H + 1 networks and H towers.

    Args:
        entry: layout of the input.
        heads: the logits.
        own: widths of the bottom of a head.
        shared: widths of the bottom that all share.
        layers: hidden widths of a tower.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        own: tuple[int, ...] = (256, 128),
        shared: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.own = Networks(entry.width, own, per_group=len(heads), generator=generator)
        self.shared = Networks(entry.width, shared, per_group=1, generator=generator)
        self.towers = ObjectiveTowers(
            own[-1] + shared[-1], len(heads), layers, same_input=False, generator=generator
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        own_HBO = self.own(inputs.x_SBX)
        shared_HBP = self.shared(inputs.x_SBX).expand(len(own_HBO), -1, -1)
        logits_BH: Tensor = self.towers(torch.cat((own_HBO, shared_HBP), dim=2))
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """The shared bottom."""
        return list(self.shared.parameters())

    def last_shared(self) -> nn.Parameter:
        """Weight of the shared bottom's last layer."""
        weight: nn.Parameter = self.shared.weights[-1]
        return weight
