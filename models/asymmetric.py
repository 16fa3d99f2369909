"""Asymmetric sharing: a bottom per objective, which later objectives read too, and earlier ones do not.

Shapes: B rows, X input width, O output width of a bottom, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class Asymmetric(Architecture):
    """A bottom and a tower per head; a tower also reads the bottoms of the heads before it, and never back.

    In the paper one of two objectives reads the other's bottom; which one is left to what is known of them.
    Here the order of the heads decides unless ``reads`` does: in a funnel parents come first.

    Equation: ``logit_h = tower_h([b_h(x); b_g(x) for g in reads_h])``, never ``h in reads_g`` besides.
    Source: Tang et al., Progressive Layered Extraction, RecSys 2020, section 3.2 and Figure 1b, for two
    objectives; fused by concatenation, one of the three ways that the paper names.
    Use: where one objective helps another, which would disturb it: many clicks for few conversions.
    Cost: H networks, and towers whose first layer grows with the bottoms that they read.

    Args:
        entry: layout of the input.
        heads: the logits.
        bottom: widths of a bottom.
        layers: hidden widths of a tower.
        reads: by head, the others whose bottoms it reads, such as ``((), (0,), (0,))``; heads without an
            entry read all before them.
        generator: source of the initial weights.

    Raises:
        ValueError: a head reads itself, one that does not exist or one twice, or two heads read each other.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        bottom: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        reads: tuple[tuple[int, ...], ...] = (),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        others = (*reads, *(tuple(range(h)) for h in range(len(reads), len(heads))))
        _check(others, len(heads))
        self.reads = [(h, *read) for h, read in enumerate(others)]
        lent = sorted({g for read in others for g in read})
        kept = [h for h in range(len(heads)) if h not in lent]
        # apart: who lends is moved by other objectives, who keeps is not
        self.lent = Networks(entry.width, bottom, per_group=len(lent), generator=generator) if lent else None
        self.kept = Networks(entry.width, bottom, per_group=len(kept), generator=generator) if kept else None
        self.place_of = [(*lent, *kept).index(h) for h in range(len(heads))]
        self.read_by_all = any(
            all(g in read for read in self.reads[: heads.num_objectives]) for g in range(len(heads))
        )
        self.towers = nn.ModuleList(
            ObjectiveTowers(len(read) * bottom[-1], 1, layers, same_input=True, generator=generator)
            for read in self.reads
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        found: list[Tensor] = []
        for bottoms in (self.lent, self.kept):
            if bottoms is not None:
                found += bottoms.each(inputs.x_SBX)
        logits = [
            tower(torch.cat([found[self.place_of[g]] for g in read], dim=1).unsqueeze(0))
            for tower, read in zip(self.towers, self.reads, strict=True)
        ]
        return torch.cat(logits, dim=1)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The bottoms that other heads read."""
        return [] if self.lent is None else list(self.lent.parameters())

    def last_shared(self) -> nn.Parameter | None:
        """Weight of the last layer of the bottoms that are lent, if one of them serves all objectives."""
        if self.lent is None or not self.read_by_all:
            return None
        weight: nn.Parameter = self.lent.weights[-1]
        return weight


def _check(others: tuple[tuple[int, ...], ...], heads: int) -> None:
    """Refuse what is no asymmetric relation between heads."""
    if len(others) != heads:
        raise ValueError(f"Asymmetric reads are told for {len(others)} heads, and there are {heads}.")
    for h, read in enumerate(others):
        if h in read or len(set(read)) < len(read) or not set(read) <= set(range(heads)):
            raise ValueError(
                f"Asymmetric head {h} must read others of the heads 0 to {heads - 1}, each once; got {read}."
            )
        if back := [g for g in read if h in others[g]]:
            raise ValueError(f"Asymmetric heads {h} and {back} read each other; at most one of two may.")
