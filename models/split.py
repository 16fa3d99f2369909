"""A tensor of pairs that is held by its parts: what the users say, what the items say, what only pairs say.

Shapes: B rows of a block of pairs, R rows of one side (users or items).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.held import Held
from models.split_operations import KNOWN

#: Results that a table keeps; networks ask for a few tens.
_MOST = 1024


class Side(IntEnum):
    """Who a part of the columns belongs to."""

    USER = 0
    ITEM = 1
    PAIR = 2


class Rows(ABC):
    """From which user and which item every row of a block is made; what pairs say has a row for each."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def added(self, tables: Sequence[tuple[Side, Tensor]], axis: int) -> Tensor:
        """For every row of the block, the sum of what its user, its item and the pair have.

        Args:
            tables: equal but for their number of rows, at least one.
            axis: where their rows are.

        Returns:
            A new tensor, or a view that nobody may write to if there is one table alone.
        """

    def sum(self, made: Sequence[Made], axis: int) -> Tensor:
        """``added``, of what is made of tables, in the order of the sides."""
        return self.added([(one.side, one.numbers()) for one in made], axis)


@dataclass(frozen=True, eq=False)
class Grid(Rows):
    """All pairs of consecutive users and consecutive items, user by user."""

    users: range
    items: range

    def __len__(self) -> int:
        return len(self.users) * len(self.items)

    def added(self, tables: Sequence[tuple[Side, Tensor]], axis: int) -> Tensor:
        """The sum, made by broadcasting: nothing is repeated before it is added."""
        first, *others = (self._shaped(side, table, axis) for side, table in tables)
        for other in others:
            first = first + other
        shape = list(first.shape)
        shape[axis : axis + 2] = len(self.users), len(self.items)
        return first.expand(shape).flatten(axis, axis + 1)

    def _shaped(self, side: Side, table: Tensor, axis: int) -> Tensor:
        if side is Side.PAIR:
            return table.view(*table.shape[:axis], len(self.users), len(self.items), *table.shape[axis + 1 :])
        taken = self.users if side is Side.USER else self.items
        return table.narrow(axis, taken.start, len(taken)).unsqueeze(axis + 1 - side)


@dataclass(frozen=True, eq=False)
class Chosen(Rows):
    """Pairs in any order, by the places of their user and of their item, int64 of shape (B,)."""

    user_B: Tensor
    item_B: Tensor

    def __len__(self) -> int:
        return len(self.user_B)

    def added(self, tables: Sequence[tuple[Side, Tensor]], axis: int) -> Tensor:
        """The sum of what is looked up."""
        first, *others = (self._looked_up(side, table, axis) for side, table in tables)
        owned = tables[0][0] is not Side.PAIR
        for other in others:
            first, owned = (first.add_(other) if owned else first + other), True
        return first

    def sum(self, made: Sequence[Made], axis: int) -> Tensor:
        """The sum; users and items lie in one table, so that vectors are looked up and added in one pass.

        That takes a third of the time of three passes, each over more than a cache holds.
        """
        if [one.side for one in made[:2]] != [Side.USER, Side.ITEM]:
            return super().sum(made, axis)
        users, items, *pairs = made
        both = users.with_items(items, axis)
        at_B2 = torch.stack((self.user_B, self.item_B + users.count), dim=1)
        if axis == 0 and both.dim() == 2:
            found = functional.embedding_bag(at_B2, both, mode="sum")
        else:
            found, item = (both.index_select(axis, at_B) for at_B in at_B2.unbind(1))
            found.add_(item)
        for one in pairs:
            found.add_(one.numbers())
        return found

    def _looked_up(self, side: Side, table: Tensor, axis: int) -> Tensor:
        if side is Side.PAIR:
            return table
        return table.index_select(axis, self.user_B if side is Side.USER else self.item_B)


class Table:
    """The columns of one side, a row for each of its members, and what has been computed from them.

    Whatever is asked of it, is computed once for all its rows; so it lives as long as its members are scored
    with weights that do not move.

    Attributes:
        values: numbers, with an axis for the rows.
        places: where its columns stand in the tensor of pairs.
    """

    def __init__(self, values: Tensor, places: tuple[int, ...]) -> None:
        self.values, self.places = values, places
        self._made: dict[Hashable, tuple[object, Any]] = {}

    def made(self, key: Hashable, of: object, make: Callable[[Tensor], Tensor]) -> Tensor:
        """A result of ``make`` for all rows, computed when it is first asked for.

        Args:
            key: names the operation.
            of: what the key names by ``id``; it is kept, so that no other thing can take its place.
            make: the operation.
        """
        if key not in self._made:
            if len(self._made) == _MOST:  # weights that are others in every block
                self._made.clear()
            self._made[key] = (of, make(self.values))
        found: Tensor = self._made[key][1]
        return found

    def turned(
        self,
        key: Hashable,
        make: Callable[[Tensor], Tensor],
        places: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
    ) -> Table:
        """``made``, as a table of the same columns or of those that ``places`` makes of them."""
        if key not in self._made:
            turned = self.places if places is None else places(self.places)
            self._made[key] = (None, Table(make(self.values), turned))
        found: Table = self._made[key][1]
        return found


@dataclass(frozen=True, eq=False)
class Made:
    """What an operation makes of the columns of a side, computed when it is first asked for.

    Attributes:
        side: whose columns.
        table: the columns.
        count: their rows.
        key: names the operation.
        of: what the key names by ``id``.
        make: the operation.
    """

    side: Side
    table: Table
    count: int
    key: Hashable
    of: object
    make: Callable[[Tensor], Tensor]

    def numbers(self) -> Tensor:
        """What was made, a row for each of the table's."""
        return self.table.made(self.key, self.of, self.make)

    def with_items(self, items: Made, axis: int) -> Tensor:
        """These rows and behind them those of items: one table, and none of either side besides."""

        def both(values: Tensor) -> Tensor:
            return torch.cat((self.make(values), items.make(items.table.values)), dim=axis)

        return self.table.made((self.key, id(items.table)), (self.of, items.table), both)


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
        made = []
        for order, (side, table) in enumerate(self.tables.items()):

            def own(values: Tensor, table: Table = table, first: bool = order == 0) -> Tensor:
                return make(values, torch.tensor(table.places, device=values.device), first)

            count = table.values.shape[self.rows_axis]
            made.append(Made(side, table, count, (key, order == 0), of, own))
        return self.rows.sum(made, rows_axis)
