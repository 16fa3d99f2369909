"""The columns of one side of pairs, and what operations make of them once for all blocks of pairs.

Shapes: R rows of one side (users or items).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

import torch
from torch import Tensor

Kept = TypeVar("Kept")
#: Results that a table keeps; networks ask for a few tens.
_MOST = 1024


class Side(IntEnum):
    """Who a part of the columns belongs to."""

    USER = 0
    ITEM = 1
    PAIR = 2


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

    def made(self, key: Hashable, of: object, make: Callable[[Tensor], Kept]) -> Kept:
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
        found: Kept = self._made[key][1]
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
