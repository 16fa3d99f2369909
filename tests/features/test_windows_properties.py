"""Random logs and window sets against plain Python, on every path: raw events, with parts, snapshots.

Instants lie on a coarse grid of three days around a change of clocks, and one microsecond off it, so that
ties and edges of windows, buckets and visibility are common. Some days are empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import fsum, ulp
from random import Random
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features import windows
from features.aggregates import Aggregate, Rate, Windowed
from features.calendar import calendar, day_end, day_of, day_start, days_between
from features.partials import all_states, merge, partials, snapshot
from features.seen import Parts
from features.windows import windows_at

ZONE = "Europe/Berlin"  # goes from 02:00 to 03:00 on the 29th, which has 23 hours
DAYS = days_between(date(2026, 3, 24), date(2026, 4, 1))
T0 = day_start(date(2026, 3, 29), ZONE)
US, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)
KINDS = ("impression", "click", "order")
OPERATIONS = ("count", "sum", "mean", "min", "max", "last", "distinct")


@dataclass(frozen=True)
class Event:
    key: int | None
    kind: str
    id: str
    at: datetime
    arrived: datetime
    price: int | None
    score: float | None
    brand: str | None


def seen_by(log: Iterable[Event], key: int | None, t: datetime, window: timedelta) -> list[Event]:
    """The rule: in [t - window, t), and arrived by t."""
    return [e for e in log if e.key == key is not None and t - window <= e.at < t and e.arrived <= t]


def once(log: Iterable[Event]) -> list[Event]:
    """Each id of a kind once, the first to arrive."""
    return list({(e.kind, e.id): e for e in sorted(log, key=lambda e: e.arrived, reverse=True)}.values())


def value_of(one: Windowed, seen: Sequence[Event]) -> Any:
    """What an operation says of the events in its window, one by one."""
    if isinstance(one, Rate):
        a, n = (sum(e.kind == kind for e in seen) for kind in (one.action, one.per))
        return (min(a, n) + one.strength * one.prior) / (n + one.strength)
    mine = [e for e in seen if one.action in (None, e.kind)]
    if one.column is None:
        return len(mine)
    if one.operation == "last":
        return getattr(max(mine, key=lambda e: (e.at, e.arrived, e.id)), one.column) if mine else None
    values = [v for e in mine if (v := getattr(e, one.column)) is not None]
    total = None if one.column == "brand" else fsum(values) if one.column == "score" else sum(values)
    match one.operation:
        case "count":
            return len(values)
        case "sum":
            return total
        case "mean":
            return float(total) / len(values) if values else None
        case "distinct":
            return len(set(values))
        case operation:
            return (min if operation == "min" else max)(values, default=None)


def equal(one: Windowed, found: Any, wanted: Any) -> bool:
    """Bit for bit, but for sums of floats: a unit in the last place for the sum, and one for the division."""
    added = isinstance(one, Aggregate) and one.column == "score" and one.operation in ("sum", "mean")
    if found is None or wanted is None or not added:
        return bool(found == wanted)
    return bool(abs(found - wanted) <= 2 * ulp(wanted))


def events_of(log: Sequence[Event]) -> pl.LazyFrame:
    schema = {
        "user_id": pl.Int64,
        "kind": pl.String,
        "event_id": pl.String,
        "occurred_at": pl.Datetime("us"),
        "arrived_at": pl.Datetime("us"),
        "price": pl.Int64,
        "score": pl.Float64,
        "brand": pl.String,
        "day": pl.Date,
        "hour": pl.Datetime("us"),
    }
    rows = [
        (e.key, e.kind, e.id, e.at, e.arrived, e.price, e.score, e.brand, day_of(e.at, ZONE), hour_of(e.at))
        for e in log
    ]
    return pl.LazyFrame(rows, schema=schema, orient="row")


def hour_of(at: datetime) -> datetime:
    """Where the hour begins, counted back from the end of the logical day."""
    end = day_end(day_of(at, ZONE), ZONE)
    return end - -((at - end) // HOUR) * HOUR


CALENDARS = {
    "day": calendar(DAYS, ZONE),
    "hour": pl.DataFrame({"hour": [day_start(DAYS[0], ZONE) + n * HOUR for n in range(9 * 24)]}).with_columns(
        starts_at="hour", ends_at=pl.col("hour") + HOUR
    ),
}


class Chance(Random):
    """Shown by its seed, since the state is long."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.first = seed

    def __repr__(self) -> str:
        return f"Chance({self.first})"


class Log(list[Event]):
    """Shown by its length: hypothesis refuses to print a whole log."""

    def __repr__(self) -> str:
        return f"{len(self)} events"


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Event], Random]:
    """Logs of up to 30 keys with 8 events each, some of them repeated; and what else is random."""
    random = Chance(draw(st.integers(0, 2**32)))
    entities = draw(st.sampled_from([1, 4, 30]))
    keys = [*range(1, 1 + entities), None]
    empty = draw(st.sets(st.sampled_from(range(-2, 3))))
    late = draw(st.sampled_from([(0,), (0, 1), (0, 0, 0, 1, 26)]))
    events = Log()
    for _ in range(draw(st.sampled_from([0, 1, 3, 8])) * entities):
        at = T0 + random.randint(-60, 60) * HOUR + random.choice([-US, 0 * US, 0 * US, US])
        if (day_of(at, ZONE) - date(2026, 3, 29)).days in empty:
            continue
        score = random.choice(
            [None, 0.1, 0.7, -2.5, 1e16, 1.0, random.gauss(0, 1) * 10 ** random.randint(-9, 9)]
        )
        arrived = at + random.choice(late) * HOUR + random.choice([0 * US, US])
        event = Event(
            random.choice(keys),
            random.choice(KINDS),
            str(random.randint(0, 10**9)),
            at,
            arrived,
            random.choice([None, *range(-3, 4), 10**16]),
            score,
            random.choice([None, "a", "b", "c"]),
        )
        events += [event] * random.choice([1, 1, 1, 2])
        if random.random() < 0.1:
            events.append(replace(event, arrived=arrived + HOUR, price=5))
        if random.random() < 0.2:  # a tie in time
            events.append(replace(event, id=event.id + "b", price=7, brand=None))
    random.shuffle(events)
    return events, random


def some_aggregates(random: Random, windows_of: Sequence[timedelta], score: bool = True) -> list[Windowed]:
    """Any of all that can be asked, over any of the windows."""
    asked: list[Windowed] = []
    for window in random.sample(windows_of, random.randint(1, min(3, len(windows_of)))):
        for operation in random.sample(OPERATIONS, random.randint(1, len(OPERATIONS))):
            columns: list[str | None] = ["price", *(["score"] if score else [])]
            if operation in ("last", "distinct"):
                columns = ["price", "brand"]
            if operation == "count":
                columns = [None, "price", "brand"]
            action = random.choice([None, *KINDS])
            asked.append(
                Aggregate(
                    entity="user",
                    operation=operation,  # type: ignore[arg-type]
                    column=random.choice(columns),
                    action=action,
                    window=window,
                )
            )
        if random.random() < 0.5:
            asked.append(
                Rate(entity="user", action="click", per="impression", window=window, prior=0.25, strength=5)
            )
    return asked


def edges(random: Random, log: Sequence[Event], asked: Sequence[Windowed]) -> datetime:
    """An instant, most often one at which something enters or leaves."""
    if not log or random.random() < 0.2:
        return T0 + random.randint(-70, 70) * HOUR
    event = random.choice(log)
    moved = random.choice([event.at, event.arrived, event.at + random.choice(asked).window])
    return moved + random.choice([-US, 0 * US, US])


def check_rows(
    found: pl.DataFrame, rows: pl.DataFrame, log: Sequence[Event], asked: Sequence[Windowed]
) -> None:
    assert_frame_equal(found.select(rows.columns), rows)
    by_key: dict[int | None, list[Event]] = defaultdict(list)
    for event in once(log):
        by_key[event.key].append(event)
    for one in asked:
        for key, t, value in found.select("user_id", "at", one.name).iter_rows():
            wanted = value_of(one, seen_by(by_key[key], key, t, one.window))
            assert equal(one, value, wanted), (one.name, key, t, value, wanted)


LENGTHS = [HOUR, 70 * timedelta(minutes=1), 5 * HOUR, DAY, 25 * HOUR, 2 * DAY, 3 * DAY]


@settings(max_examples=100, deadline=None)
@given(logs(), st.sampled_from([1, 7, 10**6]))
def test_a_window_at_any_instant_holds_what_the_rule_says(
    drawn: tuple[list[Event], Random], block: int
) -> None:
    log, random = drawn
    asked = some_aggregates(random, LENGTHS)
    keys = [random.choice([*range(1, 32), 1, 2, 3, 4, None]) for _ in range(random.choice([0, 1, 60]))]
    rows = pl.DataFrame(
        {"row": range(len(keys)), "user_id": keys, "at": [edges(random, log, asked) for _ in keys]},
        schema={"row": pl.Int64, "user_id": pl.Int32, "at": pl.Datetime("us")},
    )
    before = windows.BLOCK
    windows.BLOCK = block
    try:
        found = windows_at(rows, events_of(log), asked, keys=["user_id"], at="at")
    finally:
        windows.BLOCK = before
    check_rows(found, rows, log, asked)


@settings(max_examples=120, deadline=None)
@given(logs(), st.sampled_from(["day", "hour"]), st.integers(-2, 3))
def test_parts_and_ragged_edges_make_the_same_windows_as_all_events(
    drawn: tuple[list[Event], Random], bucket: str, day: int
) -> None:
    """Of the events that are in parts, only those of ragged buckets are given."""
    log, random = drawn
    log = once(log)
    asked = some_aggregates(random, LENGTHS, score=False)
    first = day_start(date(2026, 3, 29) + day * DAY, ZONE)
    last = first + random.choice([0, 1, 23, 48]) * HOUR
    some = [min(max(edges(random, log, asked), first), last) for _ in range(60)]
    keys = [random.choice([*range(1, 32), 1, 2, 3, 4, None]) for _ in some]
    rows = pl.DataFrame({"user_id": keys, "at": some}, schema={"user_id": pl.Int64, "at": pl.Datetime("us")})
    by_bucket = ["day"] if bucket == "day" else ["day", "hour"]
    held = partials(
        events_of([e for e in log if e.arrived < first]), asked, keys=["user_id"], bucket=by_bucket
    )
    parts = Parts(rows=held, bucket=bucket, calendar=CALENDARS[bucket], until=first)
    ragged = parts.ragged({one.window for one in asked}, first, last)[bucket].to_list()
    place = (lambda e: day_of(e.at, ZONE)) if bucket == "day" else (lambda e: hour_of(e.at))
    given_too = [e for e in log if e.arrived >= first or place(e) in ragged]
    found = windows_at(rows, events_of(given_too), asked, keys=["user_id"], at="at", parts=parts)
    check_rows(found, rows, log, asked)


@settings(max_examples=120, deadline=None)
@given(logs(), st.integers(-2, 4))
def test_a_snapshot_holds_the_logical_days_and_last_hours_before_it(
    drawn: tuple[list[Event], Random], ahead: int
) -> None:
    log, random = drawn
    log = once(log)
    valid = date(2026, 3, 29) + ahead * DAY
    start = day_start(valid, ZONE)
    asked = some_aggregates(random, [HOUR, 5 * HOUR, 23 * HOUR, DAY, 2 * DAY, 3 * DAY])
    arrived = [e for e in log if e.arrived < start]
    daily, hourly = (
        # As the daily job makes them: what arrived on a day is a delivery of its own.
        pl.concat(
            [
                partials(events_of(some), asked, keys=["user_id"], bucket=bucket)
                for some in ([e for e in arrived if day_of(e.arrived, ZONE) == day] for day in DAYS)
            ]
        )
        for bucket in (["day"], ["day", "hour"])
    )
    found = snapshot(
        daily, asked, keys=["user_id"], valid_from=valid, hourly=hourly, starts_at=start
    ).collect()

    def begins(window: timedelta) -> datetime:
        return start - window if window % DAY else day_start(valid - window, ZONE)

    inside = {one: [e for e in arrived if begins(one.window) <= e.at < start] for one in asked}
    users = sorted({e.key for one in asked for e in inside[one] if e.key is not None})
    assert found["user_id"].to_list() == users
    for one in asked:
        for key, value in found.select("user_id", one.name).iter_rows():
            wanted = value_of(one, [e for e in inside[one] if e.key == key])
            if isinstance(wanted, float) and isinstance(one, Aggregate):
                total = fsum(abs(e.score or 0) for e in inside[one] if e.key == key)
                assert abs(value - wanted) <= 1e-14 * total
            else:
                assert value == wanted


@settings(max_examples=100, deadline=None)
@given(logs())
def test_merging_parts_in_any_order_and_grouping_gives_the_same_bits(
    drawn: tuple[list[Event], Random],
) -> None:
    log, random = drawn
    log = once(log)
    asked: list[Any] = some_aggregates(random, LENGTHS, score=False)
    asked += [
        Aggregate(entity="user", operation="distinct_approx", column=column, window=DAY)
        for column in ("price", "brand")
    ]
    states, by = all_states(asked), ["user_id", "day"]
    heaps: list[list[Event]] = [[] for _ in range(random.randint(1, 5))]
    for event in log:
        random.choice(heaps).append(event)
    parts = [partials(events_of(heap), asked, keys=["user_id"], bucket=["day"]) for heap in heaps]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge(pl.concat(random.sample([merged, part], 2)), states, by)
    whole = partials(events_of(log), asked, keys=["user_id"], bucket=["day"])
    assert_frame_equal(merged.collect(), whole.collect())


@settings(max_examples=50, deadline=None)
@given(logs())
def test_neither_the_order_of_the_events_nor_what_else_is_there_changes_a_bit(
    drawn: tuple[list[Event], Random],
) -> None:
    log, random = drawn
    asked = some_aggregates(random, LENGTHS)
    instants = [edges(random, log, asked) for _ in range(20)]
    rows = pl.DataFrame({"user_id": [1] * 20, "at": instants}, schema_overrides={"at": pl.Datetime("us")})
    found = windows_at(rows, events_of(log), asked, keys=["user_id"], at="at")
    alone = random.sample(log, len(log))
    again = windows_at(rows, events_of([e for e in alone if e.key == 1]), asked, keys=["user_id"], at="at")
    assert again.equals(found)
