"""The row that an id owns, for many ids at once; made once, then asked for every block.

Legend: E known ids, N values.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from features.encodings import UNKNOWN

Places: TypeAlias = npt.NDArray[np.int32]

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
        # one place more at either end, for all that lies outside; the least integer of all has none before it
        if size <= len(keys) * _PLACES_PER_ID + _PLACES and self._low > np.iinfo(np.int64).min:
            self._table = np.full(size + 2, UNKNOWN, dtype=np.int32)
            self._before = np.int64(self._low - 1)
            self._table[keys - self._before] = owned
            return
        order = np.argsort(keys)
        self._keys, self._rows = keys[order], owned[order]

    def find(self, values: pl.Series) -> Places:
        """The row of each value, int32, shape (N,); ``UNKNOWN`` for ids that own none and for nulls."""
        if self._texts is not None:
            ids, rows = self._texts
            found = values.replace_strict(ids, rows, default=UNKNOWN, return_dtype=pl.Int32)
            return found.fill_null(UNKNOWN).to_numpy()
        asked = values.cast(pl.Int64)
        numbers = asked.fill_null(self._low).to_numpy()
        if self._table is not None:
            # clipped, what lies outside ends at either end, also where a distance is too large for 64 bits
            owned = self._table.take(numbers - self._before, mode="clip")
        else:
            place = np.minimum(np.searchsorted(self._keys, numbers), len(self._keys) - 1)
            owned = np.where(self._keys[place] == numbers, self._rows[place], np.int32(UNKNOWN))
        if asked.null_count():
            owned[asked.is_null().to_numpy()] = UNKNOWN
        return owned
