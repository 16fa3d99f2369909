"""Joining views to rows: every row comes back once, with what was known or the declared default."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.samples import add_context, join_views
from features.scenarios.shop import SCENARIO
from features.view import Attributes, Category, Dense, Feature, View

USERS = View(
    name="users",
    keys=("user_id",),
    source=Attributes(source="user"),
    features=(
        Feature(
            name="shade", expr=pl.col("shade"), dtype=pl.String(),
            encoding=Category(vocabulary="shade", capacity=8), description="No default.",
        ),
        Feature(
            name="seen", expr=pl.col("seen"), dtype=pl.Int64(), encoding=Dense(), default=0,
            description="With a default.",
        ),
    ),
    owner="tests",
    description="About users.",
)  # fmt: skip
#: Joined on a column that the view before it has brought.
SHADES = View(
    name="shades",
    keys=("shade",),
    source=Attributes(source="shade"),
    features=(
        Feature(
            name="warmth", expr=pl.col("warmth"), dtype=pl.Float64(), encoding=Dense(), default=0.5,
            description="Of a shade.",
        ),
    ),
    owner="tests",
    description="About shades.",
)  # fmt: skip


def users(*rows: tuple[int | None, str | None, int | None]) -> pl.LazyFrame:
    schema = {"user_id": pl.Int64, "shade": pl.String, "seen": pl.Int64}
    return pl.LazyFrame(rows, schema=schema, orient="row")


SHADE_ROWS = pl.LazyFrame({"shade": ["red", "blue"], "warmth": [0.9, 0.1]})


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(st.none() | st.integers(0, 5), max_size=20),
    known=st.dictionaries(
        st.integers(0, 5),
        st.tuples(st.sampled_from(["red", "blue", "green", None]), st.none() | st.integers(1, 9)),
    ),
)
def test_every_row_comes_back_once_in_its_place_with_its_values_or_the_defaults(
    asked: list[int | None], known: dict[int, tuple[str | None, int | None]]
) -> None:
    rows = pl.LazyFrame(
        {"place": range(len(asked)), "user_id": asked}, schema={"place": pl.Int64, "user_id": pl.Int64}
    )
    # The snapshot also holds a row of nobody: null never matches null.
    snapshot = users(*((user, *values) for user, values in known.items()), (None, "red", 99))
    found = join_views(rows, (USERS, SHADES), {"users": snapshot, "shades": SHADE_ROWS}).collect()
    expected = []
    for place, user in enumerate(asked):
        shade, seen = (None, None) if user is None else known.get(user, (None, None))
        warmth = {"red": 0.9, "blue": 0.1}.get(str(shade), 0.5)
        expected.append((place, user, shade, 0 if seen is None else seen, warmth))
    assert found.rows() == expected
    assert found.columns == ["place", "user_id", "shade", "seen", "warmth"]


def test_without_a_snapshot_every_value_is_missing_or_its_default() -> None:
    rows = pl.LazyFrame({"user_id": [1, 2]})
    found = join_views(rows, (USERS, SHADES), {"users": None, "shades": SHADE_ROWS}).collect()
    assert found.rows() == [(1, None, 0, 0.5), (2, None, 0, 0.5)]
    assert found.schema == {"user_id": pl.Int64, "shade": pl.String, "seen": pl.Int64, "warmth": pl.Float64}


def test_a_snapshot_with_two_rows_of_one_entity_is_refused() -> None:
    """Joined, it would double a sample."""
    twice = users((1, "red", 1), (1, "blue", 2))
    with pytest.raises(pl.exceptions.ComputeError, match="m:1"):
        join_views(pl.LazyFrame({"user_id": [1]}), (USERS,), {"users": twice}).collect()


def test_neighbouring_ids_beyond_doubles_are_not_confused() -> None:
    first = 2**53
    snapshot = users((first, "red", 1), (first + 1, "blue", 2))
    rows = pl.LazyFrame({"user_id": [first + 1, first, first + 2]})
    found = join_views(rows, (USERS,), {"users": snapshot}).collect()
    assert sorted(found.rows()) == [(first, "red", 1), (first + 1, "blue", 2), (first + 2, None, 0)]


def test_the_request_itself_gives_the_context() -> None:
    rows = pl.LazyFrame(
        {"user_id": [1], "item_id": ["a"], "surface": ["home"], "position": [3], "at": [datetime(2026, 1, 1)]}
    ).cast({"position": pl.Int8})
    found = add_context(rows, SCENARIO).collect()
    assert found.schema["position"] == pl.Int64
    assert found.row(0) == (1, "a", "home", 3, datetime(2026, 1, 1))
