"""As-of-ready versions in memory, and the search among them: the last one of a key visible by an instant.

An as-of join of a data frame library hashes the key of every version in each call, and wants the rows sorted
by time, which costs one sort there and one back. Versions that lie sorted need neither: a row looks up where
the versions of its key begin and end, then halves that range until one is left.

Legend: V versions, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from features.as_of_ready import EVENT_TIME, VISIBLE_FROM, starts_run
from features.errors import BrokenPromise
from features.key_lookup import Int64s, KeyLookup

#: Rows that are bisected together: their working arrays stay in a core's own cache.
_TOGETHER = 32_768


@dataclass(frozen=True, kw_only=True)
class Versions:
    """As-of-ready versions, sorted by key and visibility.

    Attributes:
        keys: V rows of key columns, without nulls.
        visible_from: shape (V,), us; rising within a key.
        event_time: shape (V,), us; never falling within a key.
        fields: V rows of fields, each in one piece of memory.
    """

    keys: pl.DataFrame
    visible_from: Int64s
    event_time: Int64s
    fields: pl.DataFrame

    @classmethod
    def of(cls, ready: pl.LazyFrame, keys: Sequence[pl.Expr], fields: Sequence[str]) -> Self:
        """Read what ``as_of_ready`` made, from wherever it was kept; it is sorted only if it is not yet.

        Args:
            ready: the rows.
            keys: key columns, in the types in which they are compared; null where nothing can match.
            fields: columns to answer with.

        Raises:
            BrokenPromise: the rows are not as ``as_of_ready`` makes them.
        """
        clocks = [VISIBLE_FROM, EVENT_TIME]
        # Names of our own, because a field may have any name.
        parts = [f"key_{place}" for place in range(len(keys))]
        named = [
            *(key.alias(part) for key, part in zip(keys, parts, strict=True)),
            *(pl.col(name).alias(f"field_{place}") for place, name in enumerate(fields)),
        ]
        rows = ready.select(*named, *clocks).collect()
        if any(rows[name].null_count() for name in [*parts, *clocks]):
            rows = rows.drop_nulls([*parts, *clocks])
        if not _in_order(rows, parts):
            rows = rows.sort(*parts, VISIBLE_FROM)
            if not _in_order(rows, parts):
                raise BrokenPromise(
                    f"as-of-ready rows of {', '.join(fields)}",
                    "a key has two versions from one instant, or its event times fall",
                    "make them with as_of_ready from the view's whole history",
                )
        visible_from, event_time = (rows[name].to_physical().to_numpy() for name in clocks)
        # Gathering from a column in several pieces takes five times as long.
        values = rows.select(pl.col(f"field_{place}").alias(name) for place, name in enumerate(fields))
        return cls(
            keys=rows.select(parts),
            visible_from=visible_from,
            event_time=event_time,
            fields=values.rechunk(),
        )

    def __len__(self) -> int:
        return len(self.visible_from)


def _in_order(rows: pl.DataFrame, keys: Sequence[str]) -> bool:
    """One run of rows per key, in which visibility rises and event times do not fall."""
    starts = rows.select(starts_run(keys)).to_series()
    if rows.filter(starts).select(keys).is_duplicated().any():
        return False
    visible = pl.col(VISIBLE_FROM) > pl.col(VISIBLE_FROM).shift(1)
    event = pl.col(EVENT_TIME) >= pl.col(EVENT_TIME).shift(1)
    return bool(rows.select((starts | (visible & event)).all()).item())


class Bisection:
    """Searches versions that lie sorted in memory."""

    def __init__(self, versions: Versions) -> None:
        self._visible_from = versions.visible_from
        first = versions.keys.select(starts_run(versions.keys.columns).arg_true()).to_series()
        self._entities = KeyLookup(versions.keys[first])
        # Of entity n, the versions from bounds[n] to before bounds[n + 1]. Entity -1 gets the empty range
        # from the last bound to the first.
        self._bounds = np.append(first.to_numpy(), [len(versions)] * 2).astype(np.int64)
        longest = int(np.diff(self._bounds).max())
        self._steps = [2**power for power in reversed(range(longest.bit_length()))]

    def find(self, keys: pl.DataFrame, at: Int64s) -> Int64s:
        """Place of the last version visible by each instant, shape (N,); -1 for none.

        Args:
            keys: N rows of the columns of ``Versions.keys``; a null part matches nothing.
            at: shape (N,), us.
        """
        entity = self._entities.find(keys)
        place = np.full(len(at), -1, np.int64)
        for start in range(0, len(at) if self._steps else 0, _TOGETHER):
            part = slice(start, start + _TOGETHER)
            place[part] = self._bisect(entity[part], at[part])
        return place

    def _bisect(self, entity: Int64s, at: Int64s) -> Int64s:
        """Walk from before the first version in halving steps, never past the last or one after ``at``."""
        start, stop = self._bounds[entity], self._bounds[entity + 1]
        place = start - 1
        for step in self._steps:
            ahead = place + step
            visible = self._visible_from.take(ahead, mode="clip") <= at
            visible &= ahead < stop
            place += visible * np.int64(step)
        place[place < start] = -1
        return place
