"""The row that an id owns, for many ids at once; made once, then asked for every block.

Legend: E known ids, N values.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from features.encodings import UNKNOWN

Int64s: TypeAlias = npt.NDArray[np.int64]

#: A table of all integers between the least and the greatest id is kept if it has at most so many places per
#: id, and a few for free: 4 bytes a place are no more than the ids cost that we were given.
_PLACES_PER_ID, _PLACES = 16, 65_536


class IdLookup:
    """Rows of the ids of one vocabulary.

    Integers are looked up in a table where they are dense, as those of a counter are, and by binary search
    where they are not, so that a block costs nothing for ids that it does not hold. Texts are joined.
    """

    def __init__(self, ids: pl.Series, rows: pl.Series) -> None:
        """Args: ids: E distinct ids, without nulls. rows: theirs."""
        self._texts: tuple[pl.Series, pl.Series] | None = None
        self._table: npt.NDArray[np.int32] | None = None
        if not ids.dtype.is_integer():
            self._texts = ids, rows
            return
        keys, owned = ids.cast(pl.Int64).to_numpy(), rows.cast(pl.Int32).to_numpy()
        self._low = int(keys.min()) if len(keys) else 0
        size = int(keys.max()) - self._low + 1 if len(keys) else 0
        if size <= len(keys) * _PLACES_PER_ID + _PLACES:
            # one place more, for all that lies outside
            self._table = np.full(size + 1, UNKNOWN, dtype=np.int32)
            self._table[keys - self._low] = owned
            return
        order = np.argsort(keys)
        self._keys, self._rows = keys[order], owned[order]

    def find(self, values: pl.Series) -> Int64s:
        """The row of each value, shape (N,); ``UNKNOWN`` for ids that own none and for nulls."""
        if self._texts is not None:
            ids, rows = self._texts
            found = values.replace_strict(ids, rows, default=UNKNOWN, return_dtype=pl.Int64)
            return found.fill_null(UNKNOWN).to_numpy()
        asked = values.cast(pl.Int64)
        present = None if not asked.null_count() else asked.is_not_null().to_numpy()
        numbers: Int64s = asked.fill_null(self._low).to_numpy()
        owned: npt.NDArray[np.int32]
        if self._table is not None:
            last = len(self._table) - 1
            # what lies below the least id wraps round to a large distance, so one comparison sees both ends
            distance = np.subtract(numbers, np.int64(self._low)).view(np.uint64)
            owned = self._table.take(np.minimum(distance, np.uint64(last)).view(np.int64))
        else:
            place = np.minimum(np.searchsorted(self._keys, numbers), len(self._keys) - 1)
            owned = np.where(self._keys[place] == numbers, self._rows[place], np.int32(UNKNOWN))
        if present is not None:
            owned = np.where(present, owned, np.int32(UNKNOWN))
        return owned.astype(np.int64)
