"""Which impressions can an event belong to? A sieve that lets through those, and a few more.

Impressions are many times the events, and few are followed by one. What they are asked by is kept as marks at
the places of hashes: a table that does not grow beyond 64 MiB, however many rows there are. A place may be
shared by chance, which lets an impression through that nobody asked for. It owns no event, so it changes
nothing.

Hashes are those of Polars, which are the same within one version of it. Nothing that is kept depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from features.spread import BLOCK

#: What an event can name its impression by: its id, or else user and item together.
KEYS = ("impression_id", "user_id", "item_id")
#: Places a key, and the most places in all: 64 MiB.
_PLACES, _MOST = 8, 2**26

BY_ID = pl.col("impression_id").hash(0)
BY_PAIR = pl.col("user_id").hash(1) ^ pl.col("item_id").hash(2)
_ID = pl.col("impression_id").is_not_null()
_PAIR = pl.col("user_id").is_not_null() & pl.col("item_id").is_not_null()


class Sieve:
    """Ids of impressions, and pairs of user and item, that were asked for."""

    def __init__(self, rows: Iterable[int]) -> None:
        """Args: rows: how many rows will ask, in parts."""
        wanted = _PLACES * max(sum(rows), 1)
        self._asked = np.zeros(min(1 << wanted.bit_length(), _MOST), np.bool_)

    def ask(self, events: pl.DataFrame) -> None:
        """Ask for the impressions that events name, and for those of the user and item of the others."""
        self._add(events.filter(_ID).select(BY_ID).to_series())
        self._add(events.filter(~_ID & _PAIR).select(BY_PAIR).to_series())

    def _add(self, hashes: pl.Series) -> None:
        self._asked[self._place(hashes)] = True

    def _has(self, hashes: pl.Series) -> pl.Series:
        return pl.Series(self._asked[self._place(hashes)], dtype=pl.Boolean)

    def _place(self, hashes: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return (hashes.to_numpy() & np.uint64(len(self._asked) - 1)).astype(np.int64)

    def ids(self, impressions: pl.LazyFrame) -> Sieve:
        """The ids of the impressions that were asked for, by id or by pair."""
        found = Sieve([len(self._asked) // _PLACES])
        hashes = impressions.select(id=BY_ID, pair=BY_PAIR)
        for block in hashes.collect_batches(chunk_size=BLOCK, maintain_order=False, engine="streaming"):
            asked = self._has(block["id"]) | self._has(block["pair"])
            found._add(block["id"].filter(asked))
        return found

    def named(self, impressions: pl.DataFrame) -> pl.DataFrame:
        """Of impressions, those whose id was asked for."""
        return impressions.filter(self._has(impressions.select(BY_ID).to_series()))


def in_question(impressions: pl.LazyFrame, asked: Sieve) -> Iterator[pl.DataFrame]:
    """The impressions that were asked for, with all their copies, in blocks of about ``BLOCK`` rows.

    A copy may tell another user or item than the one known first, which alone counts. So the ids come first.

    Args:
        impressions: with ``KEYS``; read twice.
        asked: what the events ask for.
    """
    ids, waiting, rows = asked.ids(impressions), [pl.DataFrame(schema=impressions.collect_schema())], 0
    for block in impressions.collect_batches(chunk_size=BLOCK, maintain_order=False, engine="streaming"):
        waiting.append(ids.named(block))
        rows += waiting[-1].height
        if rows >= BLOCK:
            yield pl.concat(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pl.concat(waiting)
