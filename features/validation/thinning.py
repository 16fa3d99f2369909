"""A bounded part of a day, spread evenly over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

#: Rows that drift and leaks are judged on, of a day and of its reference each. The AUC of a feature that says
#: nothing then has a standard error of about 0.01 at 500 positives.
AT_MOST = 32_768


def thin(rows: pl.LazyFrame, height: int, at_most: int = AT_MOST) -> pl.LazyFrame:
    """Every n-th row in the order of the file, so few that at most ``at_most`` remain.

    No seed is needed: samples lie in order of their exposure, so every n-th is spread over the whole day.

    Args:
        rows: the rows, streamed.
        height: how many there are.
        at_most: how many to keep.
    """
    return rows.gather_every(_every(height, at_most))


class Thinned:
    """The same part of rows that are read for something else, and pass by in blocks."""

    def __init__(self, height: int, columns: Iterable[str], at_most: int = AT_MOST) -> None:
        """Args: height: how many rows will pass; columns: to keep; at_most: how many rows to keep."""
        self._every, self._columns = _every(height, at_most), list(columns)
        self._passed = 0
        self._kept: list[pl.DataFrame] = []

    def watch(self, blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The blocks as they come."""
        for block in blocks:
            kept = block.select(self._columns).gather_every(self._every, -self._passed % self._every)
            self._kept.append(kept)
            self._passed += block.height
            yield block

    @property
    def rows(self) -> pl.DataFrame:
        """What was kept of the blocks that have passed; without columns if none has."""
        return pl.concat(self._kept) if self._kept else pl.DataFrame()


def _every(height: int, at_most: int) -> int:
    return max(1, -(-height // at_most))
