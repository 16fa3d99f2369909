"""The same search as one ASOF join in DuckDB, which spills to disk what does not fit its memory.

Only row numbers, keys and times enter the join and only row numbers leave it: with the fields inside, and
with several views in one query, it would need twice the memory. DuckDB takes one inequality only and picks
any of equal times; as-of-ready versions have one time, and one version per key and time.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from features.as_of_index import Versions
from features.engine import Limits, connect
from features.errors import BrokenPromise
from features.key_lookup import Int64s

# Instants cross as integers, so no session zone and no rounding can change them.
_LAST_VISIBLE = """
SELECT asked.row, known.place
FROM asked ASOF LEFT JOIN known ON asked.key = known.key AND asked.at >= known.visible_from
ORDER BY asked.row
"""


class AsOfQuery:
    """Searches versions with DuckDB."""

    def __init__(self, versions: Versions, limits: Limits) -> None:
        self._limits = limits
        self._known = versions.keys.select(
            key=_one_key(versions.keys),
            visible_from=versions.visible_from,
            place=np.arange(len(versions)),
        ).to_arrow()

    def find(self, keys: pl.DataFrame, at: Int64s) -> Int64s:
        """Place of the last version visible by each instant, shape (N,); -1 for none.

        Args:
            keys: N rows of the columns of ``Versions.keys``; a null part matches nothing.
            at: shape (N,), us.
        """
        asked = keys.select(row=np.arange(len(at)), key=_one_key(keys), at=at).to_arrow()
        with connect(self._limits) as connection:
            connection.register("asked", asked)
            connection.register("known", self._known)
            found = connection.sql(_LAST_VISIBLE).pl()
        if not np.array_equal(found["row"].to_numpy(), np.arange(len(at))):
            raise BrokenPromise("as-of join", "DuckDB moved or lost rows", "report this as a fault")
        place: Int64s = found["place"].fill_null(-1).to_numpy()
        return place


def _one_key(keys: pl.DataFrame) -> pl.Expr:
    """All parts of the key as one value. Nulls of a struct match, but versions have none to match with."""
    names = keys.columns
    return pl.col(names[0]) if len(names) == 1 else pl.struct(names)
