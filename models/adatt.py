"""AdaTT: every objective mixes the experts of all, and adds what its own ones say whatever the gate does.

Shapes: B rows, D input width, H heads, O expert output width, U = H + 1 units of a level (one per head, the
shared one last; H without shared experts), G inputs (1 where all units read the same, U otherwise),
E experts of a level, N experts of one unit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers, uniform
from models.gates import Gate, mix
from models.heads import Heads
from models.inputs import Entry, Inputs


class FusionLevel(nn.Module):
    """One level: experts of every unit, and a fusion of all of them for every unit that is read above.

    Args:
        width: D.
        num_heads: H.
        layers: widths of an expert.
        own: experts of each head.
        shared: experts of the shared unit; with 0 there is no such unit.
        same_input: all units read the same input, as they do in the first level.
        last: only the heads' units are read above.
        expert_dropout: of the gates.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
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
        self.num_own, self.num_experts = own, num_heads * own + shared
        groups, per_group = (1, num_heads * own) if same_input else (num_heads, own)
        self.own_experts = Networks(width, layers, groups=groups, per_group=per_group, generator=generator)
        self.shared_experts = (
            Networks(width, layers, per_group=shared, generator=generator) if shared else None
        )
        self._add_native("native_HN", num_heads, own, generator)
        fuses_shared = shared > 0 and not last
        if fuses_shared:
            self._add_native("native_1N", 1, shared, generator)
        self.gates = nn.ModuleList(
            Gate(width, self.num_experts, expert_dropout) for _ in range(num_heads + fuses_shared)
        )

    def forward(self, units_GBD: Tensor) -> Tensor:
        """Outputs of the units that are read above, shape (U, B, O), of those of the level below."""
        experts = self.own_experts.each(units_GBD[: self.own_experts.groups])
        if self.shared_experts is not None:
            experts = (*experts, *self.shared_experts.each(units_GBD[-1:]))
        selectors = units_GBD if len(units_GBD) > 1 else units_GBD.expand(len(self.gates), -1, -1)
        # the last level does not fuse its shared unit: there are fewer gates than units below
        fused = [
            mix(gate(selector_BD) + native_E1, experts)
            for gate, selector_BD, native_E1 in zip(self.gates, selectors, self._natives(), strict=False)
        ]
        return torch.stack(fused)

    def _natives(self) -> list[Tensor]:
        """By unit, what its own experts weigh beside the gate, each of shape (E, 1); 0 for all others."""
        rows = [*cast(Tensor, self.native_HN), *cast(Tensor, getattr(self, "native_1N", ()))]
        starts = [u * self.num_own for u in range(len(rows))]
        return [
            nn.functional.pad(row_N, (start, self.num_experts - start - len(row_N))).unsqueeze(1)
            for start, row_N in zip(starts, rows, strict=True)
        ]

    def _add_native(self, name: str, units: int, experts: int, generator: torch.Generator) -> None:
        if experts > 1:
            weight_UN = uniform(units, experts, fan_in=experts, generator=generator)
            self.register_parameter(name, weight_UN)
        else:
            self.register_buffer(name, torch.ones(units, 1), persistent=False)


class AdaTT(Architecture):
    """Levels of units that fuse the experts of all, each with a residual of its own; then a tower per head.

    A unit is a head, or the optional shared one. Without shared experts it is the paper's AdaTT-sp. Where a
    unit has one expert, that is its residual as it is.

    Equation: ``f_uj = sum_e (softmax(W_uj f_u,j-1)_e + v_uje) expert_je``, ``v_uje`` learned for the experts
    of unit u and 0 for all others; ``logit_h = tower_h(f_hN)``.
    Source: Li et al., AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in Recommendations,
    KDD 2023; equation after the authors' published code, whose gates have a bias.
    Use: as ``PLE``, with many objectives of which some help some others.
    Cost: levels times (H own + shared) experts, each read by every gate of its level.

    Args:
        entry: layout of the input.
        heads: the logits.
        levels: one tuple of expert layer widths per level, lowest level first.
        own: experts of each head in a level.
        shared: shared experts in a level, 0 or more.
        layers: hidden widths of a tower.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
        generator: source of the initial weights.

    Raises:
        ValueError: no level, no own expert, or a negative number of shared experts.
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
        if not levels or own < 1 or shared < 0:
            raise ValueError(
                "AdaTT needs at least one level and one own expert, and no negative number of shared ones; "
                f"got levels={levels}, own={own}, shared={shared}."
            )
        widths = (entry.width, *(level[-1] for level in levels))
        self.levels = nn.ModuleList(
            FusionLevel(
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
        """Logits, shape (B, H)."""
        units_GBD = inputs.x_SBX
        for level in self.levels:
            units_GBD = level(units_GBD)
        logits_BH: Tensor = self.towers(units_GBD)
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """Levels below the last, whose every unit feeds experts that all select; of the last the experts."""
        *below, last = (cast(FusionLevel, level) for level in self.levels)
        shared = [parameter for level in below for parameter in level.parameters()]
        shared += last.own_experts.parameters()
        if last.shared_experts is not None:
            shared += last.shared_experts.parameters()
        return shared

    def last_shared(self) -> nn.Parameter:
        """Weight of the last layer of the last level's own experts, which every gate selects."""
        weight: nn.Parameter = cast(FusionLevel, self.levels[-1]).own_experts.weights[-1]
        return weight
