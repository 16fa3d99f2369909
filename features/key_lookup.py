"""Which of the known entities does a key name? Composite keys and null parts included.

Legend: E entities, N rows.
"""

from __future__ import annotations

from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import BrokenPromise

Int64s: TypeAlias = npt.NDArray[np.int64]

#: A table of all possible codes is kept if it has at most so many places per entity, and a few for free.
_PLACES_PER_ENTITY, _PLACES = 16, 65_536
_CODE = "code"


class KeyLookup:
    """Numbers of distinct entities by their key.

    Integer keys, composite ones too, become one integer each: the place of the key among all combinations
    within the entities' ranges. Where ids are dense, as those of a counter are, that place is looked up in
    a table, at a hundredth of the cost of a hash join; else a join finds it. Other keys are joined as they
    are: parts are never put together to one text.
    """

    def __init__(self, entities: pl.DataFrame) -> None:
        """Args: entities: E distinct rows of key columns, without nulls."""
        self._columns = [pl.col(name) for name in entities.columns]
        self._table: npt.NDArray[np.int32] | None = None
        size = 0
        if len(entities) and all(kind.is_integer() for kind in entities.dtypes):
            lows = [int(entities[name].min()) for name in entities.columns]  # type: ignore[arg-type]
            highs = [int(entities[name].max()) for name in entities.columns]  # type: ignore[arg-type]
            size = prod(high - low + 1 for low, high in zip(lows, highs, strict=True))
            if size < 2**62:
                self._columns = [_code(entities.columns, lows, highs)]
        known = entities.select(*self._columns)
        if 0 < size <= len(entities) * _PLACES_PER_ENTITY + _PLACES:
            # One place more, for keys that have no code.
            self._table = np.full(size + 1, -1, np.int32)
            self._table[known[_CODE].to_numpy()] = np.arange(len(entities), dtype=np.int32)
        self._size = size
        self._known = known.with_row_index("entity").lazy()
        self._on = known.columns

    def find(self, keys: pl.DataFrame) -> Int64s:
        """Number of each row's entity, shape (N,); -1 where it is unknown or a part is null.

        Args:
            keys: N rows of the columns of the entities, in their types.
        """
        asked = keys.select(*self._columns)
        if self._table is not None:
            return self._table.take(asked[_CODE].fill_null(self._size).to_numpy()).astype(np.int64)
        # Entities are distinct, so no row meets two. The streaming engine gains nothing on one batch.
        found = (
            asked.lazy()
            .with_row_index("row")
            .join(self._known, on=self._on, how="left", maintain_order="left")
            .select("row", pl.col("entity").cast(pl.Int64).fill_null(-1))
            .collect(engine="in-memory")
        )
        if not np.array_equal(found["row"].to_numpy(), np.arange(len(keys))):
            raise BrokenPromise("looking up keys", "rows were moved or lost", "report this as a fault")
        numbers: Int64s = found["entity"].to_numpy()
        return numbers


def _code(names: list[str], lows: list[int], highs: list[int]) -> pl.Expr:
    """Place of a key among all combinations of values from ``lows`` to ``highs``; null outside of them."""
    spans = [high - low + 1 for low, high in zip(lows, highs, strict=True)]
    inside = pl.all_horizontal(
        pl.col(name).is_between(low, high) for name, low, high in zip(names, lows, highs, strict=True)
    )
    # What lies outside may overflow here; it is masked.
    code = pl.sum_horizontal(
        (pl.col(name) - low).cast(pl.Int64, strict=False) * prod(spans[place + 1 :])
        for place, (name, low) in enumerate(zip(names, lows, strict=True))
    )
    return pl.when(inside).then(code).alias(_CODE)
