"""Which pairs the rows of a block are, and how what users, items and pairs have is added up for them.

Shapes: B rows of a block of pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from models.side_table import Made, Side


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

    @abstractmethod
    def places(self, made: Sequence[Made]) -> tuple[Tensor, Tensor]:
        """What is made of users and of items, two-dimensional, and which of it every row of the block sums.

        Returns:
            One table, shape (T, O), and the places in it of the user and of the item, int64 of shape (B, 2).
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
        if axis == 0 and are_owned(side for side, _ in tables) and _is_narrow(tables[0][1]):
            table_TO, at_B2 = self._places(tables)
            return functional.embedding_bag(at_B2, table_TO, mode="sum")
        first, *others = (self._shaped(side, table, axis) for side, table in tables)
        for other in others:
            first = first + other
        shape = list(first.shape)
        shape[axis : axis + 2] = len(self.users), len(self.items)
        return first.expand(shape).flatten(axis, axis + 1)

    def places(self, made: Sequence[Made]) -> tuple[Tensor, Tensor]:
        """Of the block's users and items alone."""
        return self._places([(one.side, one.numbers()) for one in made])

    def _places(self, tables: Sequence[tuple[Side, Tensor]]) -> tuple[Tensor, Tensor]:
        own = [self._own(side, table, 0) for side, table in tables]
        return torch.cat(own), _everyone_with_everything(len(self.users), len(self.items))

    def _shaped(self, side: Side, table: Tensor, axis: int) -> Tensor:
        if side is Side.PAIR:
            return table.view(*table.shape[:axis], len(self.users), len(self.items), *table.shape[axis + 1 :])
        return self._own(side, table, axis).unsqueeze(axis + 1 - side)

    def _own(self, side: Side, table: Tensor, axis: int) -> Tensor:
        taken = self.users if side is Side.USER else self.items
        return table.narrow(axis, taken.start, len(taken))


def are_owned(sides: Iterable[Side]) -> bool:
    """Whether all is said by users and items: nothing belongs to pairs alone, and neither is silent."""
    return list(sides) == [Side.USER, Side.ITEM]


def _is_narrow(table: Tensor) -> bool:
    """Vectors of bfloat16 on a processor: a sum by broadcasting takes half as long again as one of bags."""
    return table.dim() == 2 and table.dtype == torch.bfloat16 and table.device.type == "cpu"


@lru_cache(maxsize=16)
def _everyone_with_everything(users: int, items: int) -> Tensor:
    """Places of the user and the item of all pairs, user by user, in a table of users, then items."""
    return torch.cartesian_prod(torch.arange(users), torch.arange(users, users + items))


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
        if not are_owned(one.side for one in made[:2]):
            return super().sum(made, axis)
        users, items, *pairs = made
        both, at_B2 = users.with_items(items, axis), self._places(users)
        if axis == 0 and both.dim() == 2:
            found = functional.embedding_bag(at_B2, both, mode="sum")
        else:
            found, item = (both.index_select(axis, at_B) for at_B in at_B2.unbind(1))
            found.add_(item)
        for one in pairs:
            found.add_(one.numbers())
        return found

    def places(self, made: Sequence[Made]) -> tuple[Tensor, Tensor]:
        """Of all users and all items."""
        users, items = made
        return users.with_items(items, 0), self._places(users)

    def _places(self, users: Made) -> Tensor:
        return torch.stack((self.user_B, self.item_B + users.count), dim=1)

    def _looked_up(self, side: Side, table: Tensor, axis: int) -> Tensor:
        if side is Side.PAIR:
            return table
        return table.index_select(axis, self.user_B if side is Side.USER else self.item_B)
