"""DBMTL: objectives as a Bayesian network, whose links are learned layers between their representations.

Shapes: B rows, H heads, G heads of one group, O output width of the bottom, A numbers that a tower says,
R numbers that a link says, I numbers that it reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, uniform
from models.heads import Heads
from models.inputs import Entry, Inputs


def lines_of(heads: Heads) -> list[tuple[int, ...]]:
    """By head, the heads that it follows, directly or not, from the top down."""
    lines: list[tuple[int, ...]] = []
    for parent in heads.parents:
        lines.append(() if parent is None else (*lines[parent], parent))
    return lines


class DBMTL(Architecture):
    """A bottom, a tower per head, and a link per head that also reads what all heads above it found.

    Heads of one group are a few wide products: they follow equally many heads, and are followed all or none,
    so that what several objectives reach is in weights of its own.

    Equation: ``z_h = link_h([tower_h(bottom(x)); z_a for a above h])``, ``logit_h = <w_h, z_h> + b_h``.
    Source: Wang et al., Deep Bayesian Multi-Target Learning for Recommender Systems, arXiv 1902.09154, 2019.
    The paper's text could not be read: the layers are those of a summary by its publisher and of two of its
    public implementations.
    Use: where what follows a click depends on why it was clicked; as ``AITM`` on short funnels.
    Cost: the bottom, H towers and H links, which are run level by level of the funnel.

    Args:
        entry: layout of the input.
        heads: the logits; ``parents`` says which heads are above which.
        bottom: widths of the shared network.
        layers: widths of a tower; the last is A.
        link: widths of a link; the last is R.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        bottom: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        link: tuple[int, ...] = (32,),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.lines = lines_of(heads)
        self.followed = {parent for parent in heads.parents if parent is not None}
        alike: dict[tuple[int, bool], list[int]] = {}
        for h, line in enumerate(self.lines):
            alike.setdefault((len(line), h in self.followed), []).append(h)
        #: groups of heads, those first that follow the fewest
        self.groups = [heads_G for _, heads_G in sorted(alike.items())]
        self.bottom = Networks(entry.width, bottom, per_group=1, generator=generator)
        self.towers, self.links = nn.ModuleList(), nn.ModuleList()
        for heads_G in self.groups:
            count, width = len(heads_G), layers[-1] + len(self.lines[heads_G[0]]) * link[-1]
            self.towers.append(Networks(bottom[-1], layers, per_group=count, generator=generator))
            self.links.append(Networks(width, link, groups=count, per_group=1, generator=generator))
        self.weight_HR1 = uniform(len(heads), link[-1], 1, fan_in=link[-1], generator=generator)
        self.bias_H11 = nn.Parameter(torch.zeros(len(heads), 1, 1))

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        bottom_1BO = self.bottom(inputs.x_SBX)
        found: dict[int, Tensor] = {}
        for heads_G, tower, link in zip(self.groups, self.towers, self.links, strict=True):
            depths = zip(*(self.lines[h] for h in heads_G), strict=True)
            above = [torch.stack([found[a] for a in ancestors]) for ancestors in depths]
            read_GBI = torch.cat([tower(bottom_1BO), *above], dim=2)
            found.update(zip(heads_G, link(read_GBI), strict=True))
        found_HBR = torch.stack([found[h] for h in range(len(self.lines))])
        return torch.baddbmm(self.bias_H11, found_HBR, self.weight_HR1).squeeze(2).T

    def shared_parameters(self) -> list[nn.Parameter]:
        """The bottom, and towers and links of the heads that others follow."""
        shared = list(self.bottom.parameters())
        for heads_G, tower, link in zip(self.groups, self.towers, self.links, strict=True):
            if heads_G[0] in self.followed:
                shared += [*tower.parameters(), *link.parameters()]
        return shared

    def last_shared(self) -> nn.Parameter:
        """Weight of the bottom's last layer."""
        weight: nn.Parameter = self.bottom.weights[-1]
        return weight
