"""Pairs of users and items are scored; what one of them says alone is computed once for it, not per pair.

Shapes: B pairs, U users, I items, H heads, N kept items of a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from models.batch import Batch, InputSpec
from models.embedding import Read
from models.line import Line
from models.pair_rows import Chosen, Grid, Rows
from models.score import published, rows_at_a_time
from models.side_table import Side, Table
from models.split import Split
from models.top import Top

Arrays: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
#: Encoded inputs of the pairs of these users and these items, user by user.
Crossed: TypeAlias = Callable[[range, range], Arrays]

#: Items whose first layers are held at a time: 64 MiB at 1,024 outputs of all first layers together.
_CHUNK = 16_384
#: Chunks that stay for the next users; more are made anew for every block of users.
_KEPT = 4
#: Pairs whose logits become probabilities together.
_STRIP = 65_536
#: Users of one pass through the network; fewer, and their first layers cost more than those of the items.
_USERS = 64


@dataclass(frozen=True)
class Share:
    """The inputs that one side brings.

    Attributes:
        fields: places among the single-valued fields.
        bags: places among the bags.
        dense: places among the quantities.
    """

    fields: tuple[int, ...] = ()
    bags: tuple[int, ...] = ()
    dense: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fields or self.bags or self.dense)


@dataclass(frozen=True)
class Shares:
    """Which inputs are the user's and which the item's; those of the request or of both are the pair's.

    Attributes:
        user: depends on the user alone.
        item: depends on the item alone.
        pair: all others.
    """

    user: Share
    item: Share
    pair: Share = Share()

    def check(self, spec: InputSpec) -> None:
        """Refuse shares that do not add up to the inputs of a line.

        Raises:
            ValueError: an input belongs to nobody or to two.
        """
        for part, count in (
            ("fields", spec.num_fields),
            ("bags", len(spec.bag_lengths)),
            ("dense", spec.num_dense),
        ):
            found = sorted(place for side in self.sides.values() for place in getattr(side, part))
            if found != list(range(count)):
                raise ValueError(f"Each of the {count} {part} belongs to one side, got {self}.")

    @property
    def sides(self) -> dict[Side, Share]:
        """By side."""
        return {Side.USER: self.user, Side.ITEM: self.item, Side.PAIR: self.pair}


class Pairs:
    """Scores pairs of one list of items with users that come by and by.

    Scores equal those of the joined rows but for the order in which the first layer adds: 1e-5 in float32.
    Memory does not grow with the number of pairs or users, only with that of the items (their encoded rows).
    The line must not learn in between.

    Args:
        line: the model.
        shares: which side brings which inputs.
        items: encoded inputs of the items, as ``Batch.from_numpy`` takes them, in the order of the share;
            at least one.
        block_rows: pairs of one forward pass; ``rows_at_a_time`` if absent.

    Raises:
        ValueError: the shares are not those of the line's inputs.
    """

    def __init__(self, line: Line, shares: Shares, items: Arrays, *, block_rows: int | None = None) -> None:
        shares.check(line.spec)
        self.line, self.shares = line, shares
        self.block_rows = rows_at_a_time(line) if block_rows is None else block_rows
        self._items, self.num_items = items, len(items["rows"])
        self._kept: dict[int, _Embedded] = {}
        self._network = line.averaged()

    def grid(self, users: Arrays, crossed: Crossed | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """All pairs of these users and all items, by score column, float32 of shape (U, I).

        Args:
            users: encoded inputs of the users; at least one.
            crossed: inputs of pairs, where some are.
        """
        shape = len(users["rows"]), self.num_items
        found: dict[str, np.ndarray[Any, Any]] = {}
        for taken, items, scores in self._strips(users, crossed):
            for name, score_UI in scores.items():
                whole_UI = found.setdefault(name, np.empty(shape, dtype=np.float32))
                whole_UI[taken.start : taken.stop, items.start : items.stop] = score_UI.numpy()
        return found

    def top(self, users: Arrays, count: int, *, by: str, crossed: Crossed | None = None) -> Top:
        """The best items of each of these users; no more than they are ever held.

        Exact: what is kept are the first items of each user in the order of all, by falling score, equal
        scores by the place of the item.

        Args:
            users: encoded inputs of the users; at least one.
            count: N, at least one.
            by: score column of a probability.
            crossed: inputs of pairs, where some are.
        """
        kept = Top(len(users["rows"]), count, by)
        for taken, items, scores in self._strips(users, crossed):
            kept.offer(taken, items, scores)
        return kept

    @torch.inference_mode()
    def chosen(
        self,
        users: Arrays,
        user_B: np.ndarray[Any, Any],
        item_B: np.ndarray[Any, Any],
        crossed: Arrays | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Listed pairs, by score column, float32 of shape (B,).

        The first layers of all items are held at once: give those that occur.

        Args:
            users: encoded inputs of the users.
            user_B: place of the user of every pair, int64; at least one pair.
            item_B: place of its item, int64.
            crossed: inputs of the pairs, where some are.
        """
        sides = {Side.USER: self._embed(Side.USER, users), Side.ITEM: self._embed(Side.ITEM, self._items)}
        parts = []
        for start in range(0, len(user_B), self.block_rows):
            cut = slice(start, start + self.block_rows)
            rows = Chosen(
                *(torch.tensor(places[cut], device=self.line.device) for places in (user_B, item_B))
            )
            if crossed is not None:
                own = {name: array[cut] for name, array in crossed.items()}
                sides[Side.PAIR] = self._embed(Side.PAIR, own)
            parts.append(self._apply(_read(rows, sides)))
        scores = published(self.line, self.line.objectives.predictions(torch.cat(parts)))
        return {name: score_B.numpy() for name, score_B in scores.items()}

    @torch.inference_mode()
    def _strips(
        self, users: Arrays, crossed: Crossed | None
    ) -> Iterator[tuple[range, range, dict[str, Tensor]]]:
        """Scores of some users times some items at a time, each of shape (users, items).

        The items of a user come in ascending order.
        """
        count = len(users["rows"])
        of_users = self._embed(Side.USER, users)
        for first in range(0, self.num_items, _CHUNK):
            of_items = self._chunk(first)
            items = range(first, min(first + _CHUNK, self.num_items))
            step = max(1, _STRIP // len(items))
            for start in range(0, count, step):
                taken = range(start, min(start + step, count))
                logits_UIH = self._logits(of_users, taken, of_items, items, crossed)
                scores = published(self.line, self.line.objectives.predictions(logits_UIH.flatten(0, 1)))
                yield taken, items, {n: score_B.view(len(taken), -1) for n, score_B in scores.items()}

    def _logits(
        self, of_users: _Embedded, users: range, of_items: _Embedded, items: range, crossed: Crossed | None
    ) -> Tensor:
        """Logits of all pairs of a strip, tile by tile, shape (users, items, H)."""
        own = None if crossed is None else crossed(users, items)
        wide = min(len(users), _USERS)
        long = max(1, self.block_rows // wide)
        logits_UIH = torch.empty(len(users), len(items), len(self.line.objectives.heads), device="cpu")
        for left in range(0, len(items), long):
            columns = range(left, min(left + long, len(items)))
            for top in range(0, len(users), wide):
                lines = range(top, min(top + wide, len(users)))
                tile = Grid(range(users.start + lines.start, users.start + lines.stop), columns)
                sides = {Side.USER: of_users, Side.ITEM: of_items}
                if own is not None:
                    cut = {name: _tile(array, len(items), lines, columns) for name, array in own.items()}
                    sides[Side.PAIR] = self._embed(Side.PAIR, cut)
                found_BH = self._apply(_read(tile, sides))
                logits_UIH[lines.start : lines.stop, columns.start : columns.stop] = found_BH.view(
                    len(lines), len(columns), -1
                )
        return logits_UIH

    def _apply(self, read: Read) -> Tensor:
        products = self.line.products
        with torch.autocast(read[0].device.type, dtype=products, enabled=products != torch.float32):
            logits_BH: Tensor = self._network(*read)
        return logits_BH.float().cpu()

    def _chunk(self, first: int) -> _Embedded:
        found = self._kept.get(first)
        if found is None:
            cut = {name: array[first : first + _CHUNK] for name, array in self._items.items()}
            found = self._embed(Side.ITEM, cut)
            if len(self._kept) < _KEPT:
                self._kept[first] = found
        return found

    def _embed(self, side: Side, arrays: Arrays) -> _Embedded:
        """Look up the vectors of one side, each row once."""
        share, spec = self.shares.sides[side], self.line.spec
        batch = Batch.from_numpy(arrays).to(self.line.device)
        lengths = tuple(spec.bag_lengths[bag] for bag in share.bags)
        if share:
            InputSpec(spec.num_rows, len(share.fields), lengths, len(share.dense)).check(batch)
        table = self.line.embedding.with_bags(lengths)
        vectors_RPD = table.gather(batch.rows_BF, batch.bag_rows_BL)[1]
        return _Embedded.of(table.read(vectors_RPD, batch), share, spec.num_fields)


@dataclass(frozen=True, eq=False)
class _Embedded:
    """What a network reads of one side, its rows one by one."""

    vectors: Table
    dense: Table
    bags: dict[int, tuple[Table, Table]]

    @classmethod
    def of(cls, read: Read, share: Share, num_fields: int) -> _Embedded:
        vectors, dense, bags, filled = read
        places = (*share.fields, *(num_fields + bag for bag in share.bags))
        single = zip(share.bags, bags, filled, strict=True)
        return cls(
            Table(vectors, places),
            Table(dense, share.dense),
            {bag: (Table(one, ()), Table(mask, ())) for bag, one, mask in single},
        )


def _read(rows: Rows, sides: Mapping[Side, _Embedded]) -> Read:
    """What a network reads of a block of pairs, held by its parts."""
    some = {s: side for s, side in sides.items() if side.vectors.places or side.dense.places}
    vectors = Split.of({s: side.vectors for s, side in some.items()}, rows, rows_axis=0, columns_axis=1)
    dense = Split.of({s: side.dense for s, side in some.items()}, rows, rows_axis=0, columns_axis=1)
    of_bag = {bag: (s, two) for s, side in some.items() for bag, two in side.bags.items()}
    bags, filled = (
        tuple(
            Split.of({of_bag[bag][0]: of_bag[bag][1][which]}, rows, rows_axis=0, columns_axis=None)
            for bag in sorted(of_bag)
        )
        for which in (0, 1)
    )
    return vectors, dense, bags, filled


def _tile(array: np.ndarray[Any, Any], num_items: int, lines: range, columns: range) -> np.ndarray[Any, Any]:
    """The pairs of some lines and columns of a strip, user by user."""
    strip = array.reshape(len(array) // num_items, num_items, *array.shape[1:])
    cut = strip[lines.start : lines.stop, columns.start : columns.stop]
    return np.ascontiguousarray(cut).reshape(len(lines) * len(columns), *array.shape[1:])
