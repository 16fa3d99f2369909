"""A windowed view at all impressions of a day, a shard of its entities in memory at a time.

What is known of an entity follows from its own events and parts. So impressions, events and parts are spread
over shards by a hash of the view's keys, one shard after the other is answered, and the answers are spread by
the block in which their impressions came. Every row is moved so many times, however many there are.
"""

from __future__ import annotations

from functools import reduce
from operator import xor
from pathlib import Path

import polars as pl

from features.at_impressions import Question
from features.spread import Spread

#: Impressions, events and parts of a shard, together.
ROWS = 1_048_576
_BLOCK, _ROW = "__block", "__row"


class ImpressionShards:
    """Asked block by block, then answered, then told block by block."""

    def __init__(
        self,
        question: Question,
        events: pl.LazyFrame,
        parts: pl.LazyFrame | None,
        *,
        folder: Path,
        shards: int,
    ) -> None:
        """Nothing is read yet.

        Args:
            question: what the view is asked.
            events: as ``Question.events`` tells them, of all entities.
            parts: as ``Question.answer`` takes them, of all entities.
            folder: new, of this object alone. What is told is read from it.
            shards: how many.
        """
        self._question, self._events, self._parts = question, events, parts
        self._folder, self._shards = folder, shards
        self._asked = self._spread("asked")
        self._told: Spread | None = None
        self._by: pl.Expr | None = None
        self._blocks = 0

    def _spread(self, name: str) -> Spread:
        return Spread(self._folder / name, self._shards)

    def ask(self, block: pl.DataFrame) -> None:
        """Ask of the next block: impressions with ``exposed_at`` and the view's keys."""
        keys = self._question.view.keys
        # Keys are equal across types; hashes are equal within one.
        self._by = reduce(
            xor, (pl.col(key).cast(block.schema[key], strict=False).hash(n) for n, key in enumerate(keys))
        )
        place = (pl.lit(self._blocks, pl.UInt32).alias(_BLOCK), pl.int_range(pl.len(), dtype=pl.UInt32))
        self._asked.add(block.select(*keys, "exposed_at", place[0], place[1].alias(_ROW)), self._by)
        self._blocks += 1

    def answer(self) -> None:
        """Find the values of all blocks; events and parts are read once."""
        if self._by is None:
            return
        happened = self._spread("events").stream(self._events, self._by)
        before = None if self._parts is None else self._spread("parts").stream(self._parts, self._by)
        self._told = Spread(self._folder / "told", self._blocks)
        for shard in range(self._shards):
            asked = self._asked.part(shard).collect()
            own = None if before is None else before.part(shard)
            values = self._question.answer(asked, happened.part(shard), own)
            self._told.add(values.hstack(asked.select(_BLOCK, _ROW)), pl.col(_BLOCK))
        for spread in filter(None, [self._asked, happened, before]):
            spread.remove()

    def told(self, block: int) -> pl.DataFrame:
        """The view's features at the impressions of a block, counted from 0, in their order.

        Raises:
            ValueError: nothing was answered yet.
        """
        if self._told is None:
            raise ValueError(f"View {self._question.view.name!r}: answer first.")
        return self._told.part(block).sort(_ROW).drop(_BLOCK, _ROW).collect()
