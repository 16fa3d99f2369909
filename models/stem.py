"""STEM: embeddings and experts per objective beside shared ones; all are read, only one's own are taught.

Shapes: B rows, X input width, H heads, O expert output width, S = H + 1 embedding spaces (one per head, the
shared one last).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.gates import Gate, mix
from models.heads import Heads
from models.inputs import Entry, Inputs


class STEM(Architecture):
    """Vectors and experts for every head and for all; a gate reads all, its gradient spares those of others.

    The own experts of a head read its own vectors, the shared experts the shared ones. So a head profits
    from what the others have learned about an id, and no other head changes its vectors.

    Equation: ``f_h = sum_e softmax(W_h (x_h + x_shared))_e expert_e`` over all experts, ``sg(expert_e)`` for
    those of other heads; ``logit_h = tower_h(f_h)``.
    Source: Su et al., STEM: Unleashing the Power of Embeddings for Multi-task Recommendation, AAAI 2024
    (STEM-Net, all forward task-specific backward gate); equation after the authors' published code, whose
    gates have hidden layers.
    Use: where the same users and items are liked differently by objective, and each has labels enough.
    Cost: H + 1 vectors per id, H own + shared experts, H gates over all of them.

    Args:
        entry: layout of the input, with H + 1 spaces.
        heads: the logits.
        own: experts of each head.
        shared: experts that all heads teach.
        expert: widths of an expert.
        layers: hidden widths of a tower.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
        generator: source of the initial weights.

    Raises:
        ValueError: no own or no shared expert.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        own: int = 1,
        shared: int = 1,
        expert: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        expert_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if min(own, shared) < 1:
            raise ValueError(f"STEM needs an own and a shared expert, got own={own}, shared={shared}.")
        self.num_own = own
        self.own_experts = Networks(
            entry.width, expert, groups=len(heads), per_group=own, generator=generator
        )
        self.shared_experts = Networks(entry.width, expert, per_group=shared, generator=generator)
        self.gates = nn.ModuleList(
            Gate(entry.width, len(heads) * own + shared, expert_dropout) for _ in heads.parents
        )
        self.towers = ObjectiveTowers(expert[-1], len(heads), layers, same_input=False, generator=generator)

    @staticmethod
    def spaces(heads: Heads) -> int:
        """One embedding space per head, and a shared one."""
        return len(heads) + 1

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        own_HBX, shared_1BX = inputs.x_SBX[:-1], inputs.x_SBX[-1:]
        own, shared = self.own_experts.each(own_HBX), self.shared_experts.each(shared_1BX)
        still = [output_BO.detach() for output_BO in own]
        fused = []
        for h, (gate, selector_BX) in enumerate(zip(self.gates, own_HBX + shared_1BX, strict=True)):
            start, stop = h * self.num_own, (h + 1) * self.num_own
            read = (*still[:start], *own[start:stop], *still[stop:], *shared)
            fused.append(mix(gate(selector_BX), read))
        logits_BH: Tensor = self.towers(torch.stack(fused))
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """The shared experts: the gradient of a head ends before the own experts of another."""
        return list(self.shared_experts.parameters())

    def last_shared(self) -> nn.Parameter:
        """Weight of the shared experts' last layer."""
        weight: nn.Parameter = self.shared_experts.weights[-1]
        return weight
