"""Multi-gate Mixture-of-Experts: all experts are shared, and every objective mixes them by a gate of its own.

Shapes: B rows, E experts, O expert output width, H heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Gate, Networks, ObjectiveTowers, mix, weigh
from models.heads import Heads
from models.inputs import Entry, Inputs


class MMoE(Architecture):
    """Experts that every head sees, one linear gate and one tower per head.

    With ``one_gate`` all heads mix alike, which is OMoE, the baseline of the same paper.

    Equation: ``f_h = sum_e softmax(W_h x)_e expert_e(x)``, ``logit_h = tower_h(f_h)``.
    Source: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
    KDD 2018, section 4; OMoE is its baseline with one gate.
    Use: where objectives are related, but not equally on all rows.
    Cost: E experts, H gates of one linear layer.

    Args:
        entry: layout of the input.
        heads: the logits.
        experts: E.
        expert: widths of an expert.
        layers: hidden widths of a tower.
        one_gate: one gate for all heads.
        generator: source of the initial weights.

    Raises:
        ValueError: no expert.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        experts: int = 4,
        expert: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        one_gate: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"MMoE needs at least one expert, got experts={experts}.")
        self.experts = Networks(entry.width, expert, per_group=experts, generator=generator)
        self.gates = nn.ModuleList(Gate(entry.width, experts) for _ in range(1 if one_gate else len(heads)))
        self.towers = ObjectiveTowers(
            expert[-1], len(heads), layers, same_input=one_gate, generator=generator
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        experts = self.experts(inputs.x_SBX).unbind(dim=0)
        weights = weigh(cast(Iterable[Gate], self.gates), inputs.x_BX)
        logits_BH: Tensor = self.towers(torch.stack([mix(weight_EB, experts) for weight_EB in weights]))
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """The experts, and the gate if there is one for all."""
        shared = list(self.experts.parameters())
        return shared if len(self.gates) > 1 else [*shared, *self.gates.parameters()]

    def last_shared(self) -> nn.Parameter:
        """Weight of the experts' last layer."""
        weight: nn.Parameter = self.experts.weights[-1]
        return weight
