"""Hard sharing: one network for all objectives, a tower for each or for several on top.

Shapes: B rows, X input width, H heads.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class SharedBottom(Architecture):
    """One network for all objectives, a tower for each on top; ``towers`` says which share one.

    Equation: ``logit_h = <w_h, tower_t(bottom(x))>``, t the tower of h.
    Source: Caruana, Multitask Learning, Machine Learning 28, 1997, in the form used as the baseline of
    MMoE (KDD 2018, equation 1). With one tower for all it is Caruana's own network, an output per target.
    Use: as the cheap baseline, where objectives agree; a tower for several where they hardly differ, or where
    one of them is too rare for a tower of its own.
    Cost: one network and a small tower per head or group of heads.

    Args:
        entry: layout of the input.
        heads: the logits.
        bottom: widths of the shared network.
        layers: hidden widths of a tower.
        towers: which heads share a tower, such as ``((0, 1), (2,))``; heads that are not named, such as those
            that a method adds, have towers of their own. Every head has a last layer of its own.
        generator: source of the initial weights.

    Raises:
        ValueError: a tower without heads, a head in two towers, or one that does not exist.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        bottom: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        towers: tuple[tuple[int, ...], ...] = (),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        named = list(chain.from_iterable(towers))
        if not all(towers) or len(set(named)) < len(named) or not set(named) <= set(range(len(heads))):
            raise ValueError(
                f"A tower needs heads, and a head one tower; heads are 0 to {len(heads) - 1}, got {towers}."
            )
        several = [tower for tower in towers if len(tower) > 1]
        together = list(chain.from_iterable(several))
        alone = [h for h in range(len(heads)) if h not in together]
        self.bottom = Networks(entry.width, bottom, per_group=1, generator=generator)
        # apart: the layers of a tower for several heads are shared, those of the others are not
        self.towers: ObjectiveTowers | None = None
        self.joint: ObjectiveTowers | None = None
        if alone:
            self.towers = ObjectiveTowers(
                bottom[-1], len(alone), layers, same_input=True, generator=generator
            )
        if several:
            self.joint = ObjectiveTowers(
                bottom[-1],
                len(together),
                layers,
                same_input=True,
                tower_of=tuple(t for t, tower in enumerate(several) for _ in tower),
                generator=generator,
            )
        self.columns = [(*alone, *together).index(h) for h in range(len(heads))]
        self.one_for_all = len(several) == 1 and set(range(heads.num_objectives)) <= set(together)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        bottom = self.bottom.each(inputs.x_SBX)
        parts = [towers(bottom) for towers in (self.towers, self.joint) if towers is not None]
        # the heads are in order unless some share a tower
        return parts[0] if self.joint is None else torch.cat(parts, dim=1)[:, self.columns]

    def shared_parameters(self) -> list[nn.Parameter]:
        """The bottom, and the hidden layers of towers for several heads."""
        shared = list(self.bottom.parameters())
        return shared if self.joint is None else [*shared, *self.joint.hidden.parameters()]

    def last_shared(self) -> nn.Parameter:
        """Weight of the bottom's last layer, or of the tower's where one tower serves all objectives."""
        last = self.joint.hidden if self.joint is not None and self.one_for_all else self.bottom
        weight: nn.Parameter = last.weights[-1]
        return weight
