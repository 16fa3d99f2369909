"""AITM: what an objective has learned is handed down the funnel, as much of it as each row can use.

Shapes: B rows, H heads, A numbers per representation, U = 2 sources of a head that follows another.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, uniform
from models.heads import Heads
from models.inputs import Entry, Inputs


class Transfer(nn.Module):
    """One step down: attention over what is handed down and what the head has learned by itself.

    Args:
        width: A.
        generator: source of the initial weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hand_AA = uniform(width, width, fan_in=width, generator=generator)
        self.hand_A = nn.Parameter(torch.zeros(width))
        self.value_AA = uniform(width, width, fan_in=width, generator=generator)
        self.key_AA = uniform(width, width, fan_in=width, generator=generator)
        self.query_AA = uniform(width, width, fan_in=width, generator=generator)

    def forward(self, above_BA: Tensor, own_BA: Tensor) -> Tensor:
        """The head's representation, shape (B, A)."""
        handed_BA = torch.relu(above_BA @ self.hand_AA + self.hand_A)
        both_UBA = torch.stack((handed_BA, own_BA))
        score_UB = ((both_UBA @ self.key_AA) * (both_UBA @ self.query_AA)).sum(dim=2)
        weight_UB1 = torch.softmax(score_UB / math.sqrt(own_BA.shape[1]), dim=0).unsqueeze(2)
        return (weight_UB1 * (both_UBA @ self.value_AA)).sum(dim=0)


class AITM(Architecture):
    """A network per head; one that follows another mixes its own representation with what that one hands on.

    The paper's losses are those of ``Ordered``: joint probabilities, and a calibrator that keeps their order.

    Equation: ``z_t = sum_u w_u h1(u)`` over ``u`` in ``{g(z_t-1), q_t}``,
    ``w = softmax(<h2(u), h3(u)> / sqrt(A))``.
    Source: Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions with
    Multi-task Learning in Targeted Display Advertising, KDD 2021, section 3; the equations as the authors'
    published code has them.
    Use: on long funnels whose last steps are rare.
    Cost: H networks, and four A by A products for every head that follows another.

    Args:
        entry: layout of the input.
        heads: the logits; ``parents`` says which representation is handed to which.
        layers: widths of a network; the last is A.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        layers: tuple[int, ...] = (128, 64, 32),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.parents = heads.parents
        self.networks = nn.ModuleList(
            Networks(entry.width, layers, per_group=1, generator=generator) for _ in self.parents
        )
        self.transfers = nn.ModuleDict(
            {
                str(h): Transfer(layers[-1], generator)
                for h, parent in enumerate(self.parents)
                if parent is not None
            }
        )
        self.weight_HA = uniform(len(heads), layers[-1], fan_in=layers[-1], generator=generator)
        self.bias_H = nn.Parameter(torch.zeros(len(heads)))

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        found: list[Tensor] = []
        for h, (network, parent) in enumerate(zip(self.networks, self.parents, strict=True)):
            own_BA = network(inputs.x_SBX)[0]
            found.append(own_BA if parent is None else self.transfers[str(h)](found[parent], own_BA))
        return (torch.stack(found, dim=1) * self.weight_HA).sum(dim=2) + self.bias_H

    def shared_parameters(self) -> list[nn.Parameter]:
        """Networks and transfers of the heads that others follow."""
        followed = sorted({parent for parent in self.parents if parent is not None})
        shared: list[nn.Parameter] = []
        for h in followed:
            shared += self.networks[h].parameters()
            if str(h) in self.transfers:
                shared += self.transfers[str(h)].parameters()
        return shared
