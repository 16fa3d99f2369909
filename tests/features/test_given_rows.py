"""Rows that were given after a day, against asking row by row."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.given_rows import GivenRows

FIRST = date(1970, 1, 3)  # some days are before 1970, from where they are counted
DAYS = st.integers(-4, 4)


@given(st.dictionaries(st.integers(2, 40), st.none() | DAYS, min_size=1), DAYS)
def test_rows_given_after_a_day_are_those_that_asking_row_by_row_finds(
    since: dict[int, int | None], asked: int
) -> None:
    owned = pl.DataFrame(
        {"row": list(since), "row_since": [d if d is None else FIRST + timedelta(d) for d in since.values()]},
        schema={"row": pl.Int32(), "row_since": pl.Date()},
    )
    found = GivenRows.of(owned).after(FIRST + timedelta(days=asked))
    assert found.tolist() == sorted(row for row, day in since.items() if day is not None and day > asked)
    assert found.dtype == "int64"


def test_a_day_of_new_ids_is_one_run() -> None:
    """However many there are: the maps give the lowest rows that are free."""
    owned = pl.DataFrame(
        {"row": range(2, 100_002), "row_since": [FIRST] * 60_000 + [FIRST + timedelta(days=1)] * 40_000}
    )
    runs = GivenRows.of(owned)
    assert (runs.first_R.tolist(), runs.count_R.tolist()) == ([2, 60_002], [60_000, 40_000])
