"""A tensor of pairs that is held by its parts: what the users say, what the items say, what only pairs say.

Shapes: B rows of a block of pairs, R rows of one side (users or items), T rows of both, O columns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from models.held import Held
from models.pair_rows import Rows, are_owned
from models.side_table import Kept, Made, Side, Table
from models.split_operations import KNOWN


class Split(Held):
    """A block of pairs whose columns belong to users, items and pairs; it reads like the plain tensor.

    ``x @ W`` is the sum of what the users' columns, the items' and the pairs' own make of their rows of
    ``W``, and the first two are computed once per user and per item. So the first layer of every tower,
    expert and gate costs a pair one addition per output. Sums over columns and functions of single elements
    come apart in the same way. `models.split_operations` lists the operations for which that holds; every
    other one gets the ``whole`` tensor, which makes it right whatever a network does, at the plain price.

    For scoring alone: no gradient flows through it.
    """

    known = KNOWN
    tables: Mapping[Side, Table]
    rows: Rows
    rows_axis: int
    columns_axis: int | None
    _whole: Tensor | None

    @staticmethod
    def of(tables: Mapping[Side, Table], rows: Rows, *, rows_axis: int, columns_axis: int | None) -> Split:
        """The tensor of these parts.

        Args:
            tables: by side, in the order of the sides; those without columns may be left out, one may not.
            rows: of the block.
            rows_axis: of every table, and of the result.
            columns_axis: likewise; ``None`` if one side alone says all of it.
        """
        some = next(iter(tables.values())).values
        shape = list(some.shape)
        shape[rows_axis] = len(rows)
        if columns_axis is not None:
            shape[columns_axis] = sum(len(table.places) for table in tables.values())
        made: Split = Tensor._make_wrapper_subclass(Split, shape, dtype=some.dtype, device=some.device)
        made.tables, made.rows, made._whole = tables, rows, None
        made.rows_axis, made.columns_axis = rows_axis, columns_axis
        return made

    def whole(self) -> Tensor:
        """The plain tensor, made when it is first asked for."""
        if self._whole is None:
            parts = [self.rows.added([part], self.rows_axis) for part in self.parts()]
            if self.columns_axis is None:
                (self._whole,) = parts
            else:
                places = [place for table in self.tables.values() for place in table.places]
                joined = torch.cat(parts, dim=self.columns_axis)
                back = torch.tensor(places, device=joined.device).argsort()
                in_order = places == sorted(places)
                self._whole = joined if in_order else joined.index_select(self.columns_axis, back)
        return self._whole

    def parts(self) -> list[tuple[Side, Tensor]]:
        """The numbers of every side."""
        return [(side, table.values) for side, table in self.tables.items()]

    def by_part(
        self,
        key: Hashable,
        make: Callable[[Tensor], Tensor],
        *,
        rows_axis: int,
        columns_axis: int | None,
    ) -> Split:
        """A tensor whose parts are made of those of this one, each by itself."""
        tables = {side: table.turned(key, make) for side, table in self.tables.items()}
        return Split.of(tables, self.rows, rows_axis=rows_axis, columns_axis=columns_axis)

    def once(self, key: Hashable, of: object, make: Callable[[], Kept]) -> Kept:
        """What depends on weights alone, made once for all blocks of pairs.

        Args:
            key: names the operation.
            of: what the key names by ``id``.
            make: the operation.
        """
        table = next(iter(self.tables.values()))
        return table.made(key, of, lambda _: make())

    def added(
        self, key: Hashable, of: object, make: Callable[[Tensor, Tensor, bool], Tensor], *, rows_axis: int
    ) -> Tensor:
        """The sum over the parts of what ``make`` makes of each, for every row of the block.

        Args:
            key: names the operation.
            of: what the key names by ``id``.
            make: takes the numbers of a side, the places of its columns (int64) and whether it is the first
                side, which is where a bias belongs.
            rows_axis: of what ``make`` makes.
        """
        return self.rows.sum(self._made(key, of, make), rows_axis)

    def addends(
        self, key: Hashable, of: object, make: Callable[[Tensor, Tensor, bool], Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """What ``added`` sums where users and items say all, their rows first.

        Returns:
            A table, shape (T, O), and the places in it of the user and of the item of every row of the block,
            int64 of shape (B, 2); ``None`` where pairs have a say of their own, or one side has none.
        """
        return self.rows.places(self._made(key, of, make)) if are_owned(self.tables) else None

    def _made(self, key: Hashable, of: object, make: Callable[[Tensor, Tensor, bool], Tensor]) -> list[Made]:
        made = []
        for order, (side, table) in enumerate(self.tables.items()):

            def own(values: Tensor, table: Table = table, first: bool = order == 0) -> Tensor:
                return make(values, torch.tensor(table.places, device=values.device), first)

            count = table.values.shape[self.rows_axis]
            made.append(Made(side, table, count, (key, order == 0), of, own))
        return made
