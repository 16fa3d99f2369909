"""Multi-level MMoE: experts above experts, all of them shared, all gates looking at the input.

Shapes: B rows, I input width of a level, E experts, H heads, G inputs of a level: one at first, E later.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.gates import Gate, mix
from models.heads import Heads
from models.inputs import Entry, Inputs


class MLMMoE(Architecture):
    """Levels of experts: a gate per expert mixes the level below it, a gate per head mixes the last level.

    All gates have the same selector, the input of the network. Nothing belongs to an objective but its last
    gate and its tower, which is what PLE changes. One level makes it MMoE.

    Equation: ``f_ej = expert_ej(sum_i softmax(W_ej x)_i f_i,j-1)``, ``f_e1 = expert_e1(x)``,
    ``logit_h = tower_h(sum_e softmax(W_h x)_e f_eN)``.
    Source: Tang et al., Progressive Layered Extraction, RecSys 2020, section 5.1.2 and Figure 1h, and Ma et
    al., SNR: Sub-Network Routing, AAAI 2019, section of experiments; both say it in words.
    Use: as the baseline that separates the gain of PLE's depth from that of its own experts.
    Cost: levels times E experts, and as many gates of one linear layer.

    Args:
        entry: layout of the input.
        heads: the logits.
        levels: one tuple of expert layer widths per level, lowest level first.
        experts: E, in every level.
        layers: hidden widths of a tower.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
        generator: source of the initial weights.

    Raises:
        ValueError: no level or no expert.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        levels: tuple[tuple[int, ...], ...] = ((256,), (128,)),
        experts: int = 4,
        layers: tuple[int, ...] = (64,),
        expert_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not levels or experts < 1:
            raise ValueError(
                f"MLMMoE needs at least one level and one expert, got levels={levels}, experts={experts}."
            )
        first = Networks(entry.width, levels[0], per_group=experts, generator=generator)
        later = [
            Networks(below[-1], level, groups=experts, per_group=1, generator=generator)
            for below, level in pairwise(levels)
        ]
        self.levels = nn.ModuleList([first, *later])
        # what reads a level: the experts of the next one, at last the heads
        readers = [*(experts for _ in later), len(heads)]
        self.gates = nn.ModuleList(
            nn.ModuleList(Gate(entry.width, experts, expert_dropout) for _ in range(count))
            for count in readers
        )
        self.towers = ObjectiveTowers(
            levels[-1][-1], len(heads), layers, same_input=False, generator=generator
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        read: Tensor | Sequence[Tensor] = inputs.x_SBX
        for level, gates in zip(self.levels, self.gates, strict=True):
            experts = cast(Networks, level).each(read)
            read = [mix(gate(inputs.x_BX), experts) for gate in cast(nn.ModuleList, gates)]
        logits_BH: Tensor = self.towers(read)
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """All experts, and the gates below the last level's."""
        between = (parameter for gates in list(self.gates)[:-1] for parameter in gates.parameters())
        return [*self.levels.parameters(), *between]

    def last_shared(self) -> nn.Parameter:
        """Weight of the last layer of the last level's experts."""
        weight: nn.Parameter = cast(Networks, self.levels[-1]).weights[-1]
        return weight
