"""What a network reads: the vectors of a batch, pooled by field, and the layout that names them.

Shapes: B rows, F fields and bags, D numbers per vector, S embedding spaces, X columns of the flat input,
L positions of one bag, Q quantities (dense columns), N chosen fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.folded import Folded
from models.native.rows import widened
from models.side_table import Table
from models.split import Split


@dataclass(frozen=True)
class Entry:
    """Layout of ``Inputs``, known when a network is built.

    Attributes:
        width: X.
        dim: D.
        fields: names of the single-valued fields, then of the bags.
        num_dense: Q.
        spaces: S.
    """

    width: int
    dim: int
    fields: tuple[str, ...]
    num_dense: int = 0
    spaces: int = 1

    def positions(self, names: Sequence[str]) -> list[int]:
        """Places of the named fields.

        Raises:
            ValueError: naming those that are no fields, and the fields that there are.
        """
        if unknown := [name for name in names if name not in self.fields]:
            raise ValueError(f"{unknown} are no fields of this line; its fields are {list(self.fields)}.")
        return [self.fields.index(name) for name in names]


@dataclass(frozen=True, eq=False)
class Inputs:
    """One batch on its way from the embeddings to the logits.

    Attributes:
        x_SBX: what the network reads, one row of it per embedding space; vectors and quantities side by
            side, or what a feature interaction made of them.
        vectors_SBFD: the vector of every field and the mean of every bag.
        dense_BQ: quantities.
        bags_SBLD: the vectors of every bag one by one, for networks that read sequences; in the order of the
            bag, newest event first.
        filled_BL: by bag, which positions are not padding.
    """

    x_SBX: Tensor
    vectors_SBFD: Tensor
    dense_BQ: Tensor
    bags_SBLD: tuple[Tensor, ...] = ()
    filled_BL: tuple[Tensor, ...] = ()

    @property
    def x_BX(self) -> Tensor:
        """The flat input of a network with one embedding space: a view, whose gradient needs no copy."""
        return self.x_SBX.squeeze(0)

    def chosen(self, positions: Sequence[int], space: int = 0) -> Tensor:
        """Vectors of chosen fields side by side, shape (B, N * D)."""
        return self.vectors_SBFD[space][:, list(positions)].flatten(1)


def flat(vectors_SBFD: Tensor, dense_BQ: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Vectors and quantities side by side, shape (S, B, F * D + Q); held by parts if they are.

    Args:
        vectors_SBFD: as in ``Inputs``.
        dense_BQ: likewise.
        dtype: of the result, which is put together and rounded in one pass; that of the vectors if absent.
    """
    if isinstance(vectors_SBFD, Split):
        return _flat_parts(vectors_SBFD, dense_BQ, dtype)
    if isinstance(vectors_SBFD, Folded) and len(vectors_SBFD) == 1:
        return _flat_folded(vectors_SBFD, dense_BQ, dtype)
    dtype = vectors_SBFD.dtype if dtype is None else dtype
    if not dense_BQ.shape[1]:
        return vectors_SBFD.flatten(2).to(dtype)
    return _SideBySide.apply(dtype, vectors_SBFD, dense_BQ)  # type: ignore[no-any-return, no-untyped-call]


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, vectors_SBFD: Tensor, dense_BQ: Tensor) -> Tensor:  # noqa: ANN401
        spaces, rows, fields, dim = ctx.shape = vectors_SBFD.shape
        ctx.dtypes = vectors_SBFD.dtype, dense_BQ.dtype
        x_SBX = vectors_SBFD.new_empty(spaces, rows, fields * dim + dense_BQ.shape[1], dtype=dtype)
        x_SBX[:, :, : fields * dim].view(vectors_SBFD.shape).copy_(vectors_SBFD)
        x_SBX[:, :, fields * dim :] = dense_BQ
        return x_SBX

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_SBX: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        width = ctx.shape[2] * ctx.shape[3]
        of_vectors, of_dense = ctx.dtypes
        dense = grad_SBX[:, :, width:].sum(dim=0).to(of_dense) if ctx.needs_input_grad[2] else None
        return None, widened(grad_SBX, width, of_vectors).view(ctx.shape), dense


def _flat_folded(vectors_1BFD: Folded, dense_BQ: Tensor, dtype: torch.dtype | None) -> Folded:
    """``flat`` of what is held row by row; the rest stays as it is."""
    _, rows, fields, dim = vectors_1BFD.shape
    rest_BY = flat(vectors_1BFD.rest_BY.view(1, rows, -1, dim), dense_BQ, dtype).squeeze(0)
    shape = 1, rows, fields * dim + dense_BQ.shape[1]
    return Folded.of(vectors_1BFD.places, vectors_1BFD.vectors_TD, rest_BY, shape)


def _flat_parts(vectors_SBFD: Split, dense_BQ: Tensor, dtype: torch.dtype | None) -> Split:
    """``flat`` of every side; a field has D columns, and quantities come behind all fields."""
    assert isinstance(dense_BQ, Split)  # noqa: S101 - both are made of the same sides
    fields, dim = vectors_SBFD.shape[2:]
    tables = {}
    for side, table in vectors_SBFD.tables.items():
        dense = dense_BQ.tables[side]

        def columns(places: tuple[int, ...], dense: Table = dense) -> tuple[int, ...]:
            vectors = [place * dim + d for place in places for d in range(dim)]
            return (*vectors, *(fields * dim + place for place in dense.places))

        tables[side] = table.turned(
            ("flat", dtype), partial(flat, dense_BQ=dense.values, dtype=dtype), columns
        )
    return Split.of(tables, vectors_SBFD.rows, rows_axis=1, columns_axis=2)
