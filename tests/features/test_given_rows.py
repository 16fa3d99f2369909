"""Rows that were given after a day, against asking row by row."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.given_rows import GivenRows

FIRST = date(2026, 1, 5)
DAYS = st.integers(0, 4)


@given(st.dictionaries(st.integers(2, 40), DAYS, min_size=1), DAYS)
def test_rows_given_after_a_day_are_those_that_asking_row_by_row_finds(
    since: dict[int, int], asked: int
) -> None:
    owned = pl.DataFrame(
        {"row": list(since), "row_since": [FIRST + timedelta(days=day) for day in since.values()]},
        schema={"row": pl.Int32(), "row_since": pl.Date()},
    )
    found = GivenRows.of(owned).after(FIRST + timedelta(days=asked))
    assert found.tolist() == sorted(row for row, day in since.items() if day > asked)
    assert found.dtype == "int64"


def test_a_day_of_new_ids_is_one_run() -> None:
    """However many there are: the maps give the lowest rows that are free."""
    owned = pl.DataFrame(
        {"row": range(2, 100_002), "row_since": [FIRST] * 60_000 + [FIRST + timedelta(days=1)] * 40_000}
    )
    runs = GivenRows.of(owned)
    assert (runs.first_R.tolist(), runs.count_R.tolist()) == ([2, 60_002], [60_000, 40_000])
