"""From embedding vectors to logits: a feature interaction with an architecture on top.

Shapes: B rows, F fields and bags, D numbers per vector, S embedding spaces, E = S * D numbers that the table
holds for an id, Q quantities, H heads, L positions of one bag,
P looked-up positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.balancing.base import Leaves
from models.batch import InputSpec
from models.folded import Folded
from models.heads import Heads
from models.inputs import Entry, Inputs
from models.interaction.base import Interaction
from models.split import Split


class Network(nn.Module):
    """What stands between the packed table and the losses.

    Args:
        spec: layout of the batches.
        heads: the logits that are asked for.
        dim: D.
        interaction: an ``Interaction`` class, or a ``partial`` of one with its settings.
        architecture: an ``Architecture`` class, or a ``partial`` of one with its settings.
        draw: a generator for the named part; each part draws from its own.
    """

    def __init__(
        self,
        spec: InputSpec,
        heads: Heads,
        *,
        dim: int,
        interaction: Callable[..., Interaction],
        architecture: Callable[..., Architecture],
        draw: Callable[[str], torch.Generator],
    ) -> None:
        super().__init__()
        declared: Any
        # what a partial stands for says how many spaces there are, before it can be built
        declared = architecture.func if isinstance(architecture, partial) else architecture
        self.spaces: int = declared.spaces(heads)
        entry = Entry(spec.width(dim), dim, spec.fields, spec.num_dense, self.spaces)
        self.interaction = interaction(entry, len(heads), generator=draw("interaction"))
        read = replace(entry, width=self.interaction.width)
        self.architecture = architecture(read, heads, generator=draw("architecture"))

    def forward(
        self,
        vectors_BFE: Tensor,
        dense_BQ: Tensor,
        bags_BLE: tuple[Tensor, ...] = (),
        filled_BL: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Logits, shape (B, H)."""
        vectors_SBFD = self._by_space(vectors_BFE)
        x_SBX, term_BH = self.interaction(vectors_SBFD, dense_BQ)
        bags_SBLD = tuple(self._by_space(bag_BLE) for bag_BLE in bags_BLE)
        logits_BH: Tensor = self.architecture(Inputs(x_SBX, vectors_SBFD, dense_BQ, bags_SBLD, filled_BL))
        return logits_BH if term_BH is None else logits_BH + term_BH

    def leaves(self, vectors_BPE: Tensor) -> Leaves:
        """Where the gradients of a batch with these vectors end."""
        shared, own, last = self._ends
        return Leaves(vectors_BPE, shared, own, vectors_BPE if last is None else last)

    @cached_property
    def _ends(self) -> tuple[tuple[nn.Parameter, ...], tuple[nn.Parameter, ...], nn.Parameter | None]:
        """Parameters that several heads reach, all others, and the last shared one."""
        shared = (*self.interaction.shared_parameters(), *self.architecture.shared_parameters())
        known = {id(parameter) for parameter in shared}
        own = tuple(parameter for parameter in self.parameters() if id(parameter) not in known)
        return shared, own, self.architecture.last_shared()

    def _by_space(self, vectors_BFE: Tensor) -> Tensor:
        if isinstance(vectors_BFE, Split):
            columns_axis = None if vectors_BFE.columns_axis is None else 2
            return vectors_BFE.by_part("by space", self._by_space, rows_axis=1, columns_axis=columns_axis)
        if isinstance(vectors_BFE, Folded) and self.spaces == 1:
            return vectors_BFE.shaped(1, *vectors_BFE.shape)
        rows, fields, numbers = vectors_BFE.shape
        return vectors_BFE.view(rows, fields, self.spaces, numbers // self.spaces).permute(2, 0, 1, 3)
