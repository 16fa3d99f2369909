"""Progressive Layered Extraction: experts of their own and shared ones, separated level by level.

Shapes: B rows, D input width, K heads (objectives, in the paper), M = K + 1 modules (one per objective, the
shared one last), O expert output width, E experts that a gate selects from.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.gates import Gate, read_alike
from models.heads import Heads
from models.inputs import Entry, Inputs
from models.mixture import mixtures


class ExtractionLayer(nn.Module):
    """One level (the paper's CGC block): experts, a gate per objective, and a shared gate unless last.

    Args:
        width: width of what the experts and gates read.
        num_objectives: K.
        layers: widths of an expert.
        own: experts of each objective.
        shared: experts that every gate selects.
        same_input: all modules read the same input, as they do in the first level.
        last: leave out the shared gate, whose output no level would read.
        expert_dropout: of the gates.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        num_objectives: int,
        layers: tuple[int, ...],
        *,
        own: int,
        shared: int,
        same_input: bool,
        last: bool,
        expert_dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        groups, per_group = (1, num_objectives * own) if same_input else (num_objectives, own)
        self.num_own = own
        self.own_experts = Networks(width, layers, groups=groups, per_group=per_group, generator=generator)
        self.shared_experts = Networks(width, layers, per_group=shared, generator=generator)
        self.own_gates = nn.ModuleList(
            Gate(width, own + shared, expert_dropout) for _ in range(num_objectives)
        )
        self.shared_gate = None if last else Gate(width, num_objectives * own + shared, expert_dropout)

    def forward(
        self, own: Tensor | Sequence[Tensor], shared_BD: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Fuse the experts once per module.

        Args:
            own: previous output of each objective, or the one input of all, each of shape (B, D).
            shared_BD: previous output of the shared module, or the input.

        Returns:
            Outputs of the objectives and of the shared module, each of shape (B, O); the latter is ``None``
            in the last level.
        """
        if len(own) == 1 and len(self.own_gates) > 1:
            networks = [self.own_experts, self.shared_experts]
            outputs, weights = read_alike(networks, self._gates(), shared_BD)
        else:
            outputs = [self.own_experts.each(own), self.shared_experts.each([shared_BD])]
            selectors = (*own, shared_BD)
            weights = tuple(gate(read_BD) for gate, read_BD in zip(self._gates(), selectors, strict=False))
        experts, count, objectives = sum(outputs, ()), self.num_own, len(self.own_gates)
        kept = range(objectives * count, len(experts))
        selected = [(*range(k * count, (k + 1) * count), *kept) for k in range(objectives)]
        if self.shared_gate is None:
            return mixtures(weights, experts, selected), None
        *fused, fused_BO = mixtures(weights, experts, [*selected, range(len(experts))])
        return tuple(fused), fused_BO

    def _gates(self) -> list[Gate]:
        """Those of the objectives, then the shared one if there is one."""
        own_gates = [cast(Gate, gate) for gate in self.own_gates]
        return own_gates if self.shared_gate is None else [*own_gates, self.shared_gate]


class PLE(Architecture):
    """Levels of gated experts, then a tower per objective.

    Gate k of a level selects the own experts of objective k and the shared experts, with the previous
    output of objective k as selector; the shared gate selects all experts of its level and exists in
    every level but the last. One level makes it ``CGC``.

    Equation: ``g_kj = w_kj(g_k,j-1) S_kj``, ``logit_k = tower_k(g_kN)``.
    Source: Tang et al., Progressive Layered Extraction, RecSys 2020, equations 1-7 and Figures 4-5.
    Use: where objectives both help and disturb each other; with ``expert_dropout`` (0.1 to 0.3) where a gate
    settles on one expert.
    Cost: levels times (K own + shared) experts.

    Args:
        entry: layout of the input.
        heads: the logits.
        levels: one tuple of expert layer widths per level, lowest level first.
        own: experts of each objective in a level.
        shared: shared experts in a level.
        layers: hidden widths of a tower.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
        generator: source of the initial weights.

    Raises:
        ValueError: no level, no own or no shared expert.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        levels: tuple[tuple[int, ...], ...] = ((256,), (128,)),
        own: int = 1,
        shared: int = 1,
        layers: tuple[int, ...] = (64,),
        expert_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not levels or min(own, shared) < 1:
            raise ValueError(
                f"{type(self).__name__} needs at least one level, one own and one shared expert; "
                f"got levels={levels}, own={own}, shared={shared}."
            )
        widths = (entry.width, *(level[-1] for level in levels))
        self.levels = nn.ModuleList(
            ExtractionLayer(
                before,
                len(heads),
                level,
                own=own,
                shared=shared,
                same_input=depth == 0,
                last=depth == len(levels) - 1,
                expert_dropout=expert_dropout,
                generator=generator,
            )
            for depth, (level, (before, _)) in enumerate(zip(levels, pairwise(widths), strict=True))
        )
        self.towers = ObjectiveTowers(widths[-1], len(heads), layers, same_input=False, generator=generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, K)."""
        own, shared_BO = inputs.x_SBX, inputs.x_BX
        for level in self.levels:
            own, shared_BO = level(own, shared_BO)
        logits_BK: Tensor = self.towers(own)
        return logits_BK

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that every objective reaches.

        Shared experts of all levels; below the last level also the shared gate and the own experts,
        which it selects; two levels or more below the last also the own gates, whose outputs feed them.
        """
        shared: list[nn.Parameter] = []
        for above, level in enumerate(cast(ExtractionLayer, level) for level in reversed(self.levels)):
            shared += level.shared_experts.parameters()
            if level.shared_gate is not None:
                shared += [*level.shared_gate.parameters(), *level.own_experts.parameters()]
            if above >= 2:
                shared += level.own_gates.parameters()
        return shared

    def last_shared(self) -> nn.Parameter:
        """Weight of the last layer of the last level's shared experts."""
        weight: nn.Parameter = cast(ExtractionLayer, self.levels[-1]).shared_experts.weights[-1]
        return weight
