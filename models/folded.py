"""Fields of few ids are read by vocabulary: what a network makes of an id is computed once, not per row.

Shapes: B rows of a batch, F single-valued fields, S small ones among them, K all others, L positions of all
bags, T table rows in the vocabularies of the small fields, N looked-up rows, D numbers per vector, X columns
of the flat input, Y columns of it that are held row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, groupby
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.batch import PADDING_ROW, InputSpec
from models.held import Held
from models.stable_order import stable_order

#: Rows of a batch for every id of a vocabulary, so that it is small. With fewer, products of all ids and the
#: sums of what they give take as long as products of all rows.
_ROWS_AN_ID = 4
#: Positions of a batch, in fields of few ids, from which on that pays: the products are more and smaller.
_POSITIONS = 16_384
#: What the smallest vocabularies are filled up to.
_LEAST = 64


class Fold:
    """Which fields are read by vocabulary, and where their ids and columns are.

    Vocabularies are filled up with padding rows to powers of two, so that those of one size are multiplied
    at once.

    Attributes:
        fields: places of the small fields, by rising size of what their vocabulary is filled up to.
        spans: where the ids of each are among all T, first and behind the last.
        rows_T: table row of every id.
        by_size: for each size that vocabularies are filled up to, which of the T ids and which of ``fields``.
        small_S: ``fields``, int64.
        kept_K: places of all other single-valued fields, int64.
        shift_S: what is added to a row of the table so that it is a place among all T.
        columns_Z: columns of the small fields in the flat input, field by field.
        columns_Y: columns that are held row by row, ascending.

    Args:
        spec: layout of the batches.
        few: places of the small fields; at least one.
        dim: D.
    """

    def __init__(self, spec: InputSpec, few: Sequence[int], dim: int) -> None:
        sizes = {field: max(_LEAST, 1 << (spec.vocabularies[field][1] - 1).bit_length()) for field in few}
        self.spec, self.dim = spec, dim
        self.fields = tuple(sorted(few, key=sizes.__getitem__))
        first, count = zip(*(spec.vocabularies[field] for field in self.fields), strict=True)
        start = list(accumulate((sizes[field] for field in self.fields), initial=0))
        self.spans = tuple((s, s + c) for s, c in zip(start, count, strict=False))
        self.rows_T = torch.full((start[-1],), PADDING_ROW)
        for span, row in zip(self.spans, first, strict=True):
            self.rows_T[slice(*span)] = torch.arange(row, row + span[1] - span[0])
        sized = [range(*found) for found in _runs([sizes[field] for field in self.fields])]
        self.by_size = tuple((slice(start[r.start], start[r.stop]), slice(r.start, r.stop)) for r in sized)
        self.small_S = torch.tensor(self.fields)
        self.kept_K = torch.tensor([f for f in range(spec.num_fields) if f not in few], dtype=torch.int64)
        self.shift_S = torch.tensor(start[:-1]) - torch.tensor(first)
        self.columns_Z = (self.small_S.unsqueeze(1) * dim + torch.arange(dim)).flatten()
        kept = [column for column in range(spec.width(dim)) if column // dim not in few]
        self.columns_Y = torch.tensor(kept, dtype=torch.int64)

    @classmethod
    def of(cls, spec: InputSpec, rows: int, dim: int) -> Fold | None:
        """The fields that a batch of so many rows reads by vocabulary; ``None`` if there are none."""
        few = tuple(f for f, (_, count) in enumerate(spec.vocabularies) if count * _ROWS_AN_ID <= rows)
        return _fold(spec, few, dim) if rows * len(few) >= _POSITIONS else None


def _runs(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where equal neighbours begin, and behind which place they end."""
    first = 0
    for _, alike in groupby(sizes):
        yield first, (first := first + len(list(alike)))


@lru_cache(maxsize=16)
def _fold(spec: InputSpec, few: tuple[int, ...], dim: int) -> Fold:
    return Fold(spec, few, dim)


class Places:
    """Where the small fields of a batch find their ids among all T.

    Args:
        fold: which fields they are.
        rows_BF: table row of every single-valued field.

    Raises:
        IndexError: a row is outside of the vocabulary of its field.
    """

    def __init__(self, fold: Fold, rows_BF: Tensor) -> None:
        self.fold = fold
        self.at_BS = rows_BF.index_select(1, fold.small_S).add_(fold.shift_S)
        self._check()

    def _check(self) -> None:
        fold = self.fold
        least_S, most_S = (found_S.tolist() for found_S in self.at_BS.aminmax(dim=0))
        for field, (start, stop), least, most in zip(fold.fields, fold.spans, least_S, most_S, strict=True):
            if least < start or most >= stop:
                first, count = fold.spec.vocabularies[field]
                raise IndexError(
                    f"Field {fold.spec.fields[field]!r} has a row outside of its vocabulary, which are the "
                    f"{count} rows of the table from {first} on."
                )

    @cached_property
    def rows_N(self) -> Tensor:
        """The row of the batch of every id that was read, by rising place; ids of one place by rising row."""
        return torch.cat([stable_order(at_B) for at_B in self.at_BS.T.contiguous()])

    @cached_property
    def count_T(self) -> Tensor:
        """How often each id was read."""
        return torch.bincount(self.at_BS.flatten(), minlength=len(self.fold.rows_T))

    @cached_property
    def start_T(self) -> Tensor:
        """Where the rows of each id begin in ``rows_N``."""
        return self.count_T.cumsum(0) - self.count_T

    def looked_up(self) -> Tensor:
        """Table rows of the T ids; in training the padding row, which never moves, for those not read."""
        if not torch.is_grad_enabled():
            return self.fold.rows_T
        return torch.where(self.count_T > 0, self.fold.rows_T, PADDING_ROW)


def _only(x: Folded, place: object) -> Folded | None:
    """The flat input of the one embedding space."""
    return x.shaped(*x.shape[1:]) if place == 0 and x.shape[0] == 1 else None


class Folded(Held):
    """Inputs of a batch whose small fields are held by vocabulary; it reads like the plain tensor.

    The first layer of a network is made of it by parts (``models.first_layer``). Gradients flow to them.

    Attributes:
        places: where the small fields find their ids.
        vectors_TD: their vectors.
        rest_BY: all other columns, row by row.
    """

    known: ClassVar = {Tensor.squeeze: _only, Tensor.__getitem__: _only}
    places: Places
    vectors_TD: Tensor
    rest_BY: Tensor
    _whole: Tensor | None

    @staticmethod
    def of(places: Places, vectors_TD: Tensor, rest_BY: Tensor, shape: Sequence[int]) -> Folded:
        """The tensor of these parts, its columns in the order of the fields, in the dtype of the rest."""
        made: Folded = Tensor._make_wrapper_subclass(
            Folded, shape, dtype=rest_BY.dtype, device=rest_BY.device
        )
        made.places, made.vectors_TD, made.rest_BY, made._whole = places, vectors_TD, rest_BY, None
        return made

    def shaped(self, *shape: int) -> Folded:
        """The same numbers, row by row, in another shape."""
        return Folded.of(self.places, self.vectors_TD, self.rest_BY, shape)

    def whole(self) -> Tensor:
        """The plain tensor, made when it is first asked for."""
        if self._whole is None:
            flat_BX = _Spread.apply(self.places, self.vectors_TD, self.rest_BY)  # type: ignore[no-untyped-call]
            self._whole = flat_BX.view(self.shape)
        return self._whole


class _Spread(torch.autograd.Function):
    """Every row gets the vectors of its ids; their gradients are added up by id."""

    @staticmethod
    def forward(ctx: Any, places: Places, vectors_TD: Tensor, rest_BY: Tensor) -> Tensor:  # noqa: ANN401
        fold = ctx.fold = places.fold
        ctx.places, ctx.dtype = places, vectors_TD.dtype
        rows, small = places.at_BS.shape
        flat_BX = rest_BY.new_empty(rows, rest_BY.shape[1] + small * fold.dim)
        flat_BX.index_copy_(1, fold.columns_Y[: rest_BY.shape[1]], rest_BY)
        of_BSD = vectors_TD.index_select(0, places.at_BS.flatten()).view(rows, small, fold.dim)
        for s, field in enumerate(fold.fields):
            flat_BX[:, field * fold.dim : (field + 1) * fold.dim] = of_BSD[:, s]
        return flat_BX

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BX: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        fold, places = ctx.fold, ctx.places
        small = len(fold.fields)
        own_SBD = grad_BX.new_empty(small, len(grad_BX), fold.dim, dtype=ctx.dtype)
        for s, field in enumerate(fold.fields):
            own_SBD[s] = grad_BX[:, field * fold.dim : (field + 1) * fold.dim]
        first_S = torch.arange(small) * len(grad_BX)
        at_N = (places.rows_N.view(small, -1) + first_S.unsqueeze(1)).flatten()
        grad_TD = functional.embedding_bag(at_N, own_SBD.flatten(0, 1), places.start_T, mode="sum")
        return None, grad_TD, grad_BX.index_select(1, fold.columns_Y[: grad_BX.shape[1] - small * fold.dim])
