"""Windows and sequences against plain Python over random events, late ones included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import sql
from features.scenario import Source
from features.scenarios.shop import SCENARIO
from features.snapshots import from_attributes, from_last_events, from_windows, lookback
from features.view import Attributes, LastEvents, View, Windows
from features.views.shop import item_profile, user_activity, user_sequence

FIRST = date(2026, 3, 27)
DAY = timedelta(days=1)
KINDS = ("exposure", "click", "conversion")
ROLLUP = SCENARIO.rollups[0]
CLICK: Source = SCENARIO.source("click")


@dataclass(frozen=True)
class Event:
    """Something of a kind, by day number: when it happened, and with which delivery it came."""

    kind: str
    user: int
    item: str
    minute: int
    happened: int
    arrived: int

    @property
    def at(self) -> datetime:
        return datetime(2026, 3, 27) + self.happened * DAY + timedelta(minutes=self.minute)


EVENTS = st.lists(
    st.builds(
        lambda kind, user, item, minute, happened, late: Event(
            kind, user, item, minute, happened, happened + late
        ),
        st.sampled_from(KINDS),
        st.integers(1, 3),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 3),
        st.integers(0, 7),
        st.sampled_from([0, 0, 0, 1, 2]),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET threads = 1")
        yield opened


def rolled_up(
    connection: duckdb.DuckDBPyConnection, events: Sequence[Event], days: Iterator[int]
) -> pl.LazyFrame:
    """What the roll-up query makes of each delivery by itself."""
    parts = []
    for day in days:
        arrived = [(e.kind, e.user, e.item, FIRST + e.happened * DAY) for e in events if e.arrived == day]
        schema = {"kind": pl.String, "user_id": pl.Int64, "item_id": pl.String, "day": pl.Date}
        connection.register("events", pl.DataFrame(arrived, schema=schema, orient="row").to_arrow())
        parts.append(connection.sql(sql.load(ROLLUP.query).text).pl())
    return pl.concat(parts).lazy()


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, valid=st.integers(3, 9))
def test_windowed_features_equal_those_counted_by_hand(
    connection: duckdb.DuckDBPyConnection, events: list[Event], valid: int
) -> None:
    view = user_activity.VIEW
    assert isinstance(view.source, Windows)
    parts = rolled_up(connection, events, iter(range(valid - lookback(view), valid)))
    found = from_windows(view, view.source, ROLLUP, parts, FIRST + valid * DAY).collect()

    def number(kind: str, user: int, days: int) -> int:
        return sum(
            e.kind == kind and e.user == user and e.arrived < valid and valid - days <= e.happened < valid
            for e in events
        )

    def smoothed(action: str, per: str, user: int, days: int, prior: float) -> float:
        n = number(per, user, days)
        return (min(number(action, user, days), n) + 5 * prior) / (n + 5)

    users = sorted({e.user for e in events if any(number(kind, e.user, 3) for kind in KINDS)})
    expected = [
        (
            user,
            number("exposure", user, 3),
            smoothed("click", "exposure", user, 1, 0.25),
            smoothed("click", "exposure", user, 3, 0.25),
            smoothed("conversion", "click", user, 3, 0.2),
        )
        for user in users
    ]
    by_hand = pl.DataFrame(expected, schema=found.schema, orient="row")
    assert found.columns == [
        "user_id",
        "user_impression_count_3d",
        "user_click_per_impression_1d",
        "user_click_per_impression_3d",
        "user_conversion_per_click_3d",
    ]
    assert_frame_equal(found, by_hand, rel_tol=1e-12)


def test_nothing_of_the_day_itself_is_counted_even_if_a_part_of_it_is_there() -> None:
    view = user_activity.VIEW
    assert isinstance(view.source, Windows)
    days = [FIRST, FIRST + DAY, FIRST + 2 * DAY]
    parts = pl.LazyFrame(
        {
            "user_id": [1, 1, 1],
            "day": days,
            "impression": [1, 10, 100],
            "click": [0] * 3,
            "conversion": [0] * 3,
        }
    )
    found = from_windows(view, view.source, ROLLUP, parts, FIRST + DAY).collect()
    assert found["user_impression_count_3d"].to_list() == [1]


def clicks(events: Sequence[Event]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [(e.user, e.item, e.at) for e in events],
        schema={"user_id": pl.Int64, "item_id": pl.String, "occurred_at": pl.Datetime("us")},
        orient="row",
    )


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, length=st.integers(1, 4), steps=st.sets(st.integers(1, 9), max_size=5))
def test_a_sequence_built_day_by_day_equals_the_one_built_at_once(
    events: list[Event], length: int, steps: set[int]
) -> None:
    """Days that were never run leave gaps; the next snapshot then takes in several deliveries."""
    source = LastEvents(source="click", length=length)
    view: View = replace(user_sequence.VIEW, source=source)
    events = [replace(e, kind="click") for e in events]
    previous: pl.DataFrame | None = None
    before = 0
    for valid in [*sorted(steps), 10]:
        fresh = clicks([e for e in events if before <= e.arrived < valid])
        state = None if previous is None else previous.lazy()
        previous = from_last_events(view, source, CLICK, state, fresh).collect()
        before = valid
        known: dict[int, list[tuple[datetime, str]]] = defaultdict(list)
        for e in events:
            if e.arrived < valid:
                known[e.user].append((e.at, e.item))
        by_hand = {user: sorted(pairs, reverse=True)[:length] for user, pairs in sorted(known.items())}
        assert previous["user_id"].to_list() == list(by_hand)
        for row in previous.rows(named=True):
            pairs = by_hand[row["user_id"]]
            assert row["user_last_clicked_items"] == row["click_items"] == [item for _, item in pairs]
            assert row["click_times"] == [at for at, _ in pairs]


def test_the_sequence_of_nobody_is_empty_and_typed() -> None:
    source = user_sequence.VIEW.source
    assert isinstance(source, LastEvents)
    found = from_last_events(user_sequence.VIEW, source, CLICK, None, clicks([])).collect()
    assert found.height == 0
    assert found.schema["user_last_clicked_items"] == pl.List(pl.String)


def test_attributes_are_taken_as_they_are_and_ordered_by_entity() -> None:
    assert isinstance(item_profile.VIEW.source, Attributes)
    rows = pl.LazyFrame(
        {"item_id": ["b", "a"], "category": [None, "tea"], "brand_id": [1, None], "price": [2.5, 1.0]}
    )
    assert from_attributes(item_profile.VIEW, rows).collect().rows() == [
        ("a", "tea", None, 1.0),
        ("b", None, 1, 2.5),
    ]
