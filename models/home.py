"""HoME: experts on one scale, in a hierarchy of all objectives, groups of objectives and single ones.

Shapes: B rows, H heads, C groups of heads, U = C + 1 common units (one per group, the one of all heads last),
N experts of a unit, I input width, G inputs (1 where all units read the same, one per unit otherwise),
V units of a module, S networks of all its units side by side, M output width of the lower level, O output
width of the upper one, P low-rank parts of a feature gate, R rank of a part, W columns of several units.
"""

from __future__ import annotations

from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import NormalisedNetworks, ObjectiveTowers, uniform
from models.gates import Gate, mix
from models.heads import Heads
from models.inputs import Entry, Inputs


class FeatureGate(nn.Module):
    """Scales every column of a unit's input by a number between 0 and 2, which depends on the row.

    Args:
        width: I.
        units: V.
        same_input: all units read the same input if true, each its own otherwise.
        parts: P; with more than one, a softmax over them says how much each counts.
        rank: R.
        generator: source of the initial weights.
    """

    choice_GIW: nn.Parameter | None

    def __init__(
        self, width: int, units: int, *, same_input: bool, parts: int, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        groups, per_group = (1, units) if same_input else (units, 1)
        self.parts, self.rank = parts, rank
        self.down_GIW = uniform(groups, width, per_group * parts * rank, fan_in=width, generator=generator)
        self.up_SRI = uniform(units * parts, rank, width, fan_in=rank, generator=generator)
        choice = nn.Parameter(torch.zeros(groups, width, per_group * parts)) if parts > 1 else None
        self.register_parameter("choice_GIW", choice)

    def forward(self, x_GBI: Tensor) -> Tensor:
        """The input of every unit, shape (V, B, I)."""
        low_SBR = _by_network(torch.bmm(x_GBI, self.down_GIW), self.rank)
        gate_SBI = torch.sigmoid(torch.bmm(low_SBR, self.up_SRI))
        if self.choice_GIW is None:
            return x_GBI * (2 * gate_SBI)
        share_VBP = torch.softmax(_by_network(torch.bmm(x_GBI, self.choice_GIW), self.parts), dim=2)
        parts_VBI = gate_SBI.view(-1, self.parts, *gate_SBI.shape[1:]).unbind(dim=1)
        shares_VB1 = (2 * share_VBP).unsqueeze(3).unbind(dim=2)
        gate_VBI = parts_VBI[0] * shares_VB1[0]
        for part_VBI, share_VB1 in zip(parts_VBI[1:], shares_VB1[1:], strict=True):
            gate_VBI = torch.addcmul(gate_VBI, part_VBI, share_VB1)
        return x_GBI * gate_VBI


class SelfGate(nn.Module):
    """What the experts of a unit say whatever the gates above select: a residual of its own.

    Args:
        width: I.
        units: V.
        experts: N; one is weighed by a sigmoid, several by a softmax. Weights start at zero.
        same_input: as in ``FeatureGate``.
    """

    def __init__(self, width: int, units: int, experts: int, *, same_input: bool) -> None:
        super().__init__()
        self.experts = experts
        groups, per_group = (1, units) if same_input else (units, 1)
        self.weight_GIW = nn.Parameter(torch.zeros(groups, width, per_group * experts))

    def forward(self, x_GBI: Tensor, experts_SBO: Tensor) -> Tensor:
        """One vector per unit, shape (V, B, O), of the outputs of its experts, unit by unit."""
        score_VBN = _by_network(torch.bmm(x_GBI, self.weight_GIW), self.experts)
        if self.experts == 1:
            return torch.sigmoid(score_VBN) * experts_SBO
        weight_VNB1 = torch.softmax(score_VBN, dim=2).transpose(1, 2).unsqueeze(3)
        return (weight_VNB1 * experts_SBO.view(-1, self.experts, *experts_SBO.shape[1:])).sum(dim=1)


class GatedExperts(nn.Module):
    """The experts of several units, each unit with a feature gate before its experts.

    Args:
        width: I.
        layers: widths of an expert.
        units: V.
        experts: N.
        same_input: as in ``FeatureGate``.
        parts: P.
        rank: R.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        layers: tuple[int, ...],
        *,
        units: int,
        experts: int,
        same_input: bool,
        parts: int,
        rank: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.gate = FeatureGate(
            width, units, same_input=same_input, parts=parts, rank=rank, generator=generator
        )
        self.networks = NormalisedNetworks(
            width, layers, groups=units, per_group=experts, generator=generator
        )

    def forward(self, x_GBI: Tensor) -> Tensor:
        """Outputs of all experts, shape (V * N, B, O), unit by unit."""
        found: Tensor = self.networks(self.gate(x_GBI))
        return found


class HoME(Architecture):
    """Two levels of normalised experts under a mask: of all heads, of a group of heads, of one head.

    The lower level makes a representation per group, of the group's experts and those of all, and one for
    all, of all experts. The upper level has experts of all heads, which read the latter, and experts of every
    group and of every head, which read the group's. A head selects its own, its group's and those of all.
    Every unit scales its input by a feature gate and adds its own experts by a self gate.

    The paper normalises over the rows of a batch. Here the units of a layer are normalised row by row
    (Ba et al., Layer Normalization, 2016): a row's score then depends on no other row and scoring equals
    training.

    Equation: ``expert(x) = swish(norm(W (x * fea(x))))``, ``fea(x) = sum_p a_p(x) 2 sigmoid(x B_p A_p)``,
    ``z_c = sum_e g_c(x)_e expert_e(x) + self_c(x)``,
    ``logit_h = tower_h(sum_e g_h([z_c; z_all])_e expert_e(z) + self_h(z_c))``.
    Source: Wang et al., HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou, 2024
    (KDD 2025); equations after descriptions and unofficial code, the paper's own text could not be read;
    they do not confirm the weights ``a_p``.
    Use: with many objectives in known groups, some of them rare, where experts of ``PLE`` die out.
    Cost: N experts of every group and of all heads in both levels, of every head in one, and a low-rank
    product before each N; two to three times the time of ``PLE``.

    Args:
        entry: layout of the input.
        heads: the logits.
        groups: which heads are alike, such as ``((0, 1), (2,))``; with none, all are. A head that is not
            named, such as one that a method adds, joins the head that it follows, or else the first group.
        experts: N.
        meta: widths of an expert of the lower level.
        expert: widths of an expert of the upper level.
        layers: hidden widths of a tower.
        gate_parts: P.
        gate_rank: R. The paper has the width of the input divided by P, which can cost more than the experts.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
        generator: source of the initial weights.

    Raises:
        ValueError: a count below one, a layer of fewer than two units, which a normalisation leaves nothing
            of, a group without heads, a head in two groups, or one that does not exist.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        groups: tuple[tuple[int, ...], ...] = (),
        experts: int = 1,
        meta: tuple[int, ...] = (256,),
        expert: tuple[int, ...] = (128,),
        layers: tuple[int, ...] = (64,),
        gate_parts: int = 2,
        gate_rank: int = 16,
        expert_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if min(experts, gate_parts, gate_rank) < 1 or min((2, *meta, *expert)) < 2:
            raise ValueError(
                "HoME needs at least one expert, part and rank, and two units in a layer of an expert; got "
                f"experts={experts}, gate_parts={gate_parts}, gate_rank={gate_rank}, meta={meta}, "
                f"expert={expert}."
            )
        self.group_of, self.experts = _group_of(groups, heads), experts
        num_groups = max(self.group_of) + 1
        self.one_group = num_groups == 1

        def gated(width: int, widths: tuple[int, ...], units: int, same_input: bool) -> GatedExperts:
            return GatedExperts(
                width,
                widths,
                units=units,
                experts=experts,
                same_input=same_input,
                parts=gate_parts,
                rank=gate_rank,
                generator=generator,
            )

        self.meta = gated(entry.width, meta, num_groups + 1, same_input=True)
        self.meta_self = SelfGate(entry.width, num_groups + 1, experts, same_input=True)
        gate = partial(Gate, dropout=expert_dropout)
        self.group_gates = nn.ModuleList(gate(entry.width, 2 * experts) for _ in range(num_groups))
        self.all_gate = gate(entry.width, (num_groups + 1) * experts)
        self.common = gated(meta[-1], expert, num_groups + 1, same_input=False)
        self.own = gated(meta[-1], expert, len(heads), same_input=self.one_group)
        self.own_self = SelfGate(meta[-1], len(heads), experts, same_input=self.one_group)
        self.head_gates = nn.ModuleList(gate(2 * meta[-1], 3 * experts) for _ in heads.parents)
        self.towers = ObjectiveTowers(expert[-1], len(heads), layers, same_input=False, generator=generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        z_UBM = self._representations(inputs.x_SBX)
        z_GBM = z_UBM[:1] if self.one_group else z_UBM[self.group_of]
        own_SBO = self.own(z_GBM)
        own, common = own_SBO.split(self.experts), self.common(z_UBM).split(self.experts)
        fused = []
        for h, (gate, group) in enumerate(zip(self.head_gates, self.group_of, strict=True)):
            selector_BI = torch.cat((z_UBM[group], z_UBM[-1]), dim=1)
            fused.append(mix(gate(selector_BI), (*own[h], *common[group], *common[-1])))
        logits_BH: Tensor = self.towers(torch.stack(fused) + self.own_self(z_GBM, own_SBO))
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """The lower level, but for the gates of groups with one head, and the common experts above it."""
        shared = [self.meta, self.meta_self, self.all_gate, self.common]
        shared += [gate for c, gate in enumerate(self.group_gates) if self.group_of.count(c) > 1]
        return [parameter for part in shared for parameter in part.parameters()]

    def last_shared(self) -> nn.Parameter:
        """Weight of the last layer of the common experts, of which every head selects those of all."""
        weight: nn.Parameter = self.common.networks.weights[-1]
        return weight

    def _representations(self, x_1BX: Tensor) -> Tensor:
        """The lower level: one vector per group and one for all heads, shape (U, B, M)."""
        experts_SBM = self.meta(x_1BX)
        experts = experts_SBM.split(self.experts)
        fused = [
            mix(gate(x_1BX[0]), (*mine, *experts[-1]))
            for gate, mine in zip(self.group_gates, experts[:-1], strict=True)
        ]
        fused.append(mix(self.all_gate(x_1BX[0]), experts_SBM.unbind()))
        found: Tensor = torch.stack(fused) + self.meta_self(x_1BX, experts_SBM)
        return found


def _by_network(side_by_side_GBW: Tensor, width: int) -> Tensor:
    """Results that lie side by side one below the other, each of ``width`` columns."""
    rows = side_by_side_GBW.shape[1]
    return (
        side_by_side_GBW.view(-1, rows, side_by_side_GBW.shape[2] // width, width)
        .transpose(1, 2)
        .flatten(0, 1)
    )


def _group_of(groups: tuple[tuple[int, ...], ...], heads: Heads) -> list[int]:
    """Number of the group of every head."""
    named = list(chain.from_iterable(groups))
    if not all(groups) or len(set(named)) < len(named) or not set(named) <= set(range(len(heads))):
        raise ValueError(
            f"A group needs heads, and a head one group; heads are 0 to {len(heads) - 1}, got {groups}."
        )
    told = {head: number for number, group in enumerate(groups) for head in group}
    found: list[int] = []
    for h, parent in enumerate(heads.parents):
        found.append(told.get(h, 0 if parent is None else found[parent]))
    return found
