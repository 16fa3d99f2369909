"""When the rows of a vocabulary were given to the ids that own them.

Shapes: N rows that are owned, R runs of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

#: Days since 1970 lie between minus this and this.
_MOST = 1 << 31


@dataclass(frozen=True, eq=False)
class GivenRows:
    """Which rows of a vocabulary were given when, by runs of neighbours that were given on one day.

    Ids get the lowest rows that are free, so a day is a few runs, and a million ids take no memory here.

    Attributes:
        first_R: first row of every run, int64, ascending.
        count_R: its rows.
        day_R: when they were given, ``datetime64[D]``.
    """

    first_R: np.ndarray
    count_R: np.ndarray
    day_R: np.ndarray

    @classmethod
    def of(cls, owned: pl.DataFrame) -> GivenRows:
        """Of columns ``row`` and ``row_since``, every row once; at least one; no day is before all days."""
        since = pl.col("row_since").to_physical().cast(pl.Int64).fill_null(-_MOST)
        # both in one number, so that numbers are sorted and not rows
        key = pl.col("row").cast(pl.Int64) * (2 * _MOST) + since + _MOST
        row_N, day_N = np.divmod(np.sort(owned.select(key).to_series().to_numpy()), 2 * _MOST)
        begins_R = np.flatnonzero(np.append(True, (np.diff(row_N) != 1) | (np.diff(day_N) != 0)))
        day_R = (day_N[begins_R] - _MOST).astype("M8[D]")
        return cls(row_N[begins_R], np.diff(begins_R, append=len(row_N)), day_R)

    def after(self, day: date) -> np.ndarray:
        """Rows that were given after ``day``, int64, ascending."""
        late_R = self.day_R > np.datetime64(day)
        first_R, count_R = self.first_R[late_R], self.count_R[late_R]
        before_R = count_R.cumsum() - count_R
        return np.repeat(first_R - before_R, count_R) + np.arange(count_R.sum())
