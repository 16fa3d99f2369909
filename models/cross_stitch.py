"""Cross-stitch: a network per objective, and after every layer a learned mixture of all their activations.

Shapes: B rows, X input width, O output width of a layer, H heads (tasks, in the paper), G groups that read
the same input: one at first, H later.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.heads import Heads
from models.inputs import Entry, Inputs


class CrossStitch(Architecture):
    """A network per head whose layers exchange activations, by weights that are the same for all rows.

    A unit is one H by H matrix per layer, that of the paper's equation; its experiments keep one per channel.
    They also raise the units' learning rate a hundredfold, because plain gradient steps on them are small;
    Adam's steps do not follow the size of the gradient, so there is no such setting here. Above the layers
    that are stitched every head has a tower, which is not.

    Equation: ``s_h = sum_g A_hg relu(W_g s_g + b_g)`` layer by layer, ``logit_h = tower_h(s_h)``; A starts
    with ``same`` on the diagonal and ``(1 - same) / (H - 1)`` elsewhere.
    Source: Misra et al., Cross-stitch Networks for Multi-task Learning, CVPR 2016, equation 1 and section
    5.1, for two tasks.
    Use: to learn at which depth objectives should share, where the answer is the same for all rows.
    Cost: H networks, and H * H sums per unit of every stitched layer.

    Args:
        entry: layout of the input.
        heads: the logits.
        stitched: widths of the layers that are stitched.
        layers: hidden widths of a tower.
        same: weight of a head's own activations at the start; the paper's best is 0.9.
        generator: source of the initial weights.

    Raises:
        ValueError: no layer to stitch, or ``same`` outside [0, 1].
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        stitched: tuple[int, ...] = (256, 128),
        layers: tuple[int, ...] = (64,),
        same: float = 0.9,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not stitched or not 0.0 <= same <= 1.0:
            raise ValueError(
                "CrossStitch needs a layer to stitch and a weight of its own activations in [0, 1]; "
                f"got stitched={stitched}, same={same}."
            )
        count = len(heads)
        first = Networks(entry.width, stitched[:1], per_group=count, generator=generator)
        later = [
            Networks(before, (after,), groups=count, per_group=1, generator=generator)
            for before, after in pairwise(stitched)
        ]
        self.levels = nn.ModuleList([first, *later])
        # rows of a start sum to one, so that a stitched activation has the size of those that it mixes
        start_HH = torch.full((count, count), (1.0 - same) / max(count - 1, 1))
        start_HH.fill_diagonal_(same if count > 1 else 1.0)
        self.units = nn.ParameterList(start_HH.clone() for _ in stitched)
        self.towers = ObjectiveTowers(stitched[-1], count, layers, same_input=False, generator=generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        x_GBI = inputs.x_SBX
        for level, unit_HH in zip(self.levels, self.units, strict=True):
            layer_HBO = level(x_GBI)
            x_GBI = (unit_HH @ layer_HBO.flatten(1)).view_as(layer_HBO)
        logits_BH: Tensor = self.towers(x_GBI)
        return logits_BH

    def shared_parameters(self) -> list[nn.Parameter]:
        """All stitched layers, and all units but the last: each of its rows is one head's alone."""
        return [*self.levels.parameters(), *list(self.units)[:-1]]

    def last_shared(self) -> nn.Parameter:
        """Weight of the last layer that is stitched."""
        weight: nn.Parameter = cast(Networks, self.levels[-1]).weights[-1]
        return weight
