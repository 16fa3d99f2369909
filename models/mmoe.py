"""Multi-gate Mixture-of-Experts: all experts are shared, and every objective mixes them by a gate of its own.

Shapes: B rows, I width of what a gate reads, E experts, O expert output width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.gates import Gate, read_alike
from models.heads import Heads
from models.inputs import Entry, Inputs
from models.mixture import mixtures


class MMoE(Architecture):
    """Experts that every head sees, one gate and one tower per head.

    With ``one_gate`` all heads mix alike, which is OMoE, the baseline of the same paper. The paper's gate is
    linear; ``gate`` puts hidden layers below it, as some published code has them.

    Equation: ``f_h = sum_e softmax(W_h x)_e expert_e(x)``, ``logit_h = tower_h(f_h)``; with ``gate``,
    ``softmax(W_h network_h(x))``.
    Source: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
    KDD 2018, section 4; OMoE is its baseline with one gate.
    Use: where objectives are related, but not equally on all rows; with ``expert_dropout`` (0.1 to 0.3) where
    a gate settles on one expert.
    Cost: E experts, H gates of one linear layer, and of the hidden layers that are asked for.

    Args:
        entry: layout of the input.
        heads: the logits.
        experts: E.
        expert: widths of an expert.
        layers: hidden widths of a tower.
        one_gate: one gate for all heads.
        gate: hidden widths of a gate; none makes it linear.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
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
        gate: tuple[int, ...] = (),
        expert_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"MMoE needs at least one expert, got experts={experts}.")
        self.experts = Networks(entry.width, expert, per_group=experts, generator=generator)
        gates = 1 if one_gate else len(heads)
        self.selectors = Networks(entry.width, gate, per_group=gates, generator=generator) if gate else None
        read = (entry.width, *gate)[-1]
        self.gates = nn.ModuleList(Gate(read, experts, expert_dropout) for _ in range(gates))
        self.towers = ObjectiveTowers(
            expert[-1], len(heads), layers, same_input=one_gate, generator=generator
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        if self.selectors is None:
            (experts,), weights = read_alike([self.experts], cast(Sequence[Gate], self.gates), inputs.x_BX)
        else:
            experts = self.experts.each(inputs.x_SBX)
            read = self.selectors.each(inputs.x_SBX)
            weights = tuple(gate(read_BI) for gate, read_BI in zip(self.gates, read, strict=True))
        logits_BH: Tensor = self.towers(mixtures(weights, experts, [range(len(experts))] * len(weights)))
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """The experts, and the gate if there is one for all."""
        shared = list(self.experts.parameters())
        if len(self.gates) == 1:
            shared += self.gates.parameters()
            shared += [] if self.selectors is None else self.selectors.parameters()
        return shared

    def last_shared(self) -> nn.Parameter:
        """Weight of the experts' last layer."""
        weight: nn.Parameter = self.experts.weights[-1]
        return weight
