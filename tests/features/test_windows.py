"""The numbered window cases, on every path: from raw events, from parts and ragged edges, from snapshots.

W01 to W20 are boundary cases that any store of windowed aggregates has to decide; what is asked at is noon
unless a case says otherwise, and the window is six hours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pytest

from features import distinct
from features.aggregates import Aggregate, Rate, Windowed, label
from features.calendar import calendar, day_end, day_of, day_start, days_between
from features.errors import NoInstant, NotFinite, SchemaDrift, UsageError
from features.partials import partials, snapshot
from features.seen import Parts
from features.windows import windows_at

NOON = datetime(2026, 1, 5, 12)
US, MINUTE, HOUR, DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SCHEMA = {
    "user_id": pl.Int64,
    "event_id": pl.String,
    "occurred_at": pl.Datetime("us"),
    "arrived_at": pl.Datetime("us"),
    "x": pl.Int64,
}
OPERATIONS = ("count", "sum", "mean", "min", "max", "last", "distinct")
EMPTY = {"rows": 0, "count": 0, "sum": 0, "mean": None, "min": None, "max": None, "last": None, "distinct": 0}

#: What happened: key, id, event, arrival, value.
Told: TypeAlias = tuple[int | None, str, datetime, datetime, Any]
Asked: TypeAlias = Sequence[tuple[int | None, datetime]]
Path: TypeAlias = Callable[[Sequence[Told], Asked, Sequence[Windowed]], list[tuple[Any, ...]]]


def at(instant: datetime, x: Any = 1, *, key: int | None = 1, late: timedelta = 0 * US, id: str = "") -> Told:
    """An event; its id is its own unless given."""
    return (key, id or f"{key} {instant} {late} {x}", instant, instant + late, x)


def everything(window: timedelta) -> list[Windowed]:
    """All operations over a window, by the names of ``EMPTY``."""
    rows = Aggregate(entity="u", operation="count", window=window)
    return [rows, *(Aggregate(entity="u", operation=o, column="x", window=window) for o in OPERATIONS)]  # type: ignore[arg-type]


def frame(log: Sequence[Told], x: pl.DataType | None = None) -> pl.LazyFrame:
    schema = {**SCHEMA, **({} if x is None else {"x": x})}
    day = [day_of(event[2], "UTC") for event in log]
    hour = [event[2].replace(minute=0, second=0, microsecond=0) for event in log]
    return pl.LazyFrame(list(log), schema=schema, orient="row").with_columns(
        day=pl.Series(day, dtype=pl.Date), hour=pl.Series(hour, dtype=pl.Datetime("us"))
    )


def rows_of(asked: Asked) -> pl.DataFrame:
    return pl.DataFrame(list(asked), schema={"user_id": pl.Int64, "at": pl.Datetime("us")}, orient="row")


def from_events(log: Sequence[Told], asked: Asked, what: Sequence[Windowed]) -> list[tuple[Any, ...]]:
    found = windows_at(rows_of(asked), frame(log), what, keys=["user_id"], at="at")
    return found.select(one.name for one in what).rows()


def with_parts(bucket: str) -> Path:
    """Everything that arrived before the day of the first row is in parts of days or hours."""

    def path(log: Sequence[Told], asked: Asked, what: Sequence[Windowed]) -> list[tuple[Any, ...]]:
        first, last = (edge(t for _, t in asked) for edge in (min, max))
        until = first.replace(minute=0, second=0, microsecond=0)
        until = until.replace(hour=0) if bucket == "day" else until
        by = ["day"] if bucket == "day" else ["day", "hour"]
        held = partials(frame([e for e in log if e[3] < until]), what, keys=["user_id"], bucket=by)
        begin = datetime(2025, 11, 1)
        hours = {"hour": [begin + n * HOUR for n in range(24 * 180)]}
        calendars = {
            "day": calendar(days_between(date(2025, 11, 1), date(2026, 4, 1)), "UTC"),
            "hour": pl.DataFrame(hours).with_columns(starts_at="hour", ends_at=pl.col("hour") + HOUR),
        }
        parts = Parts(rows=held, bucket=bucket, calendar=calendars[bucket], until=until)
        ragged = parts.ragged([one.window for one in what], first, last)[bucket].to_list()
        kept = frame(log).filter((pl.col("arrived_at") >= until) | pl.col(bucket).is_in(ragged))
        found = windows_at(rows_of(asked), kept, what, keys=["user_id"], at="at", parts=parts)
        return found.select(one.name for one in what).rows()

    return path


PATHS = [
    pytest.param(from_events, id="events"),
    pytest.param(with_parts("day"), id="days"),
    pytest.param(with_parts("hour"), id="hours"),
]
every_path = pytest.mark.parametrize("path", PATHS)


def noon(
    path: Path, log: Sequence[Told], window: timedelta = 6 * HOUR, key: int | None = 1
) -> dict[str, Any]:
    """All operations at noon."""
    ((*values,),) = path(log, [(key, NOON)], everything(window))
    return dict(zip(EMPTY, values, strict=True))


def one(x: Any) -> dict[str, Any]:
    """What a single event says."""
    return {"rows": 1, "count": 1, "sum": x, "mean": x, "min": x, "max": x, "last": x, "distinct": 1}


@every_path
def test_w01_an_event_at_the_instant_is_out(path: Path) -> None:
    assert noon(path, [at(NOON, 9)]) == EMPTY
    assert noon(path, [at(NOON - US, 9)]) == one(9)


@every_path
def test_w02_an_event_at_the_left_edge_is_in(path: Path) -> None:
    assert noon(path, [at(NOON - 6 * HOUR, 9)]) == one(9)


@every_path
def test_w03_an_event_a_microsecond_before_the_left_edge_is_out(path: Path) -> None:
    assert noon(path, [at(NOON - 6 * HOUR - US, 9)]) == EMPTY


@every_path
def test_w04_an_empty_window_counts_and_sums_to_0_and_has_no_mean_extreme_or_last(path: Path) -> None:
    assert noon(path, []) == EMPTY
    assert noon(path, [at(NOON - 7 * HOUR), at(NOON + HOUR)]) == EMPTY


@every_path
def test_w05_an_unknown_key_and_a_null_key_are_like_an_empty_window(path: Path) -> None:
    log = [at(NOON - HOUR), at(NOON - HOUR, 2, key=None)]
    assert noon(path, log, key=7) == EMPTY
    assert noon(path, log, key=None) == EMPTY


@every_path
def test_w06_a_null_is_a_row_but_no_value(path: Path) -> None:
    log = [at(NOON - 3 * HOUR, 4), at(NOON - 2 * HOUR, None), at(NOON - HOUR, 8)]
    assert noon(path, log) == {
        "rows": 3, "count": 2, "sum": 12, "mean": 6, "min": 4, "max": 8, "last": 8, "distinct": 2
    }  # fmt: skip


@every_path
def test_w06_the_last_of_a_window_is_null_if_the_last_events_value_is(path: Path) -> None:
    assert noon(path, [at(NOON - 3 * HOUR, 4), at(NOON - 2 * HOUR, None)])["last"] is None


@every_path
def test_w07_of_nothing_but_nulls_the_sum_is_0_and_the_mean_null(path: Path) -> None:
    assert noon(path, [at(NOON - HOUR, None), at(NOON - 2 * HOUR, None)]) == {**EMPTY, "rows": 2}


@every_path
def test_w08_a_repeated_event_id_counts_once(path: Path) -> None:
    log = [at(NOON - HOUR, 5, id="a"), at(NOON - HOUR, 5, id="a"), at(NOON - HOUR, 5, late=MINUTE, id="a")]
    assert noon(path, log) == one(5)


@every_path
def test_w09_a_mean_over_tiles_is_the_mean_of_their_events(path: Path) -> None:
    day = NOON - 2 * DAY
    log = [*(at(day + n * MINUTE, x) for n, x in enumerate((10, 20, 30))), at(day + DAY, 100)]
    assert noon(path, log, 3 * DAY)["mean"] == 40


@every_path
def test_w10_distinct_values_of_two_tiles_count_once(path: Path) -> None:
    log = [
        at(NOON - (2 - tile) * DAY + x * MINUTE, x)
        for tile, values in enumerate(((1, 2), (2, 3)))
        for x in values
    ]
    assert noon(path, log, 3 * DAY)["distinct"] == 3


@every_path
def test_w11_a_maximum_that_leaves_gives_way_to_the_next(path: Path) -> None:
    log = [at(NOON - 30 * HOUR, 9), at(NOON - 5 * HOUR, 3)]
    highest = [Aggregate(entity="u", operation="max", column="x", window=DAY)]
    assert path(log, [(1, NOON - 6 * HOUR), (1, NOON - 6 * HOUR + US), (1, NOON)], highest) == [
        (9,),
        (None,),
        (3,),
    ]


@every_path
def test_w12_the_last_is_by_event_then_arrival_then_id(path: Path) -> None:
    early, tied = NOON - 2 * HOUR, NOON - HOUR
    by_event = [at(early, 1, late=HOUR), at(tied, 2)]
    by_arrival = [at(tied, 3, id="z"), at(tied, 4, late=MINUTE, id="a")]
    by_id = [at(tied, 5, id="b"), at(tied, 6, id="a")]
    assert [noon(path, log)["last"] for log in (by_event, by_arrival, by_id)] == [2, 4, 5]


@every_path
def test_w13_what_arrives_later_is_not_known_yet_and_what_arrives_at_the_instant_is(path: Path) -> None:
    assert noon(path, [at(NOON - HOUR, 9, late=HOUR + US), at(NOON - 2 * HOUR, 4)]) == one(4)
    assert noon(path, [at(NOON - HOUR, 9, late=HOUR)]) == one(9)


@every_path
def test_w14_a_window_of_70_minutes_over_tiles_of_an_hour_is_exact(path: Path) -> None:
    log = [at(NOON - n * 10 * MINUTE, 1) for n in range(20)]
    assert noon(path, log, 70 * MINUTE)["rows"] == 7


@every_path
def test_w15_w16_the_left_edge_is_the_same_for_the_first_and_a_later_row_of_a_key(path: Path) -> None:
    log = [at(NOON - 6 * HOUR, 1), at(NOON - 6 * HOUR - US, 2)]
    summed = [Aggregate(entity="u", operation="sum", column="x", window=6 * HOUR)]
    earlier = NOON - HOUR
    assert path(log, [(1, NOON)], summed) == [(1,)]
    assert path(log, [(1, earlier), (1, NOON)], summed) == [(3,), (1,)]


@every_path
def test_w17_the_order_in_which_events_are_stored_is_irrelevant(path: Path) -> None:
    log = [at(NOON - n * HOUR, n, late=n % 3 * MINUTE) for n in range(1, 40)]
    shuffled = [log[place] for place in np.random.default_rng(1).permutation(len(log))]
    assert noon(path, shuffled, DAY) == noon(path, log, DAY) == noon(path, log[::-1], DAY)


def test_w18_a_huge_value_that_has_left_takes_nothing_with_it() -> None:
    log = [at(NOON - 8 * HOUR, 1e16), at(NOON - 4 * HOUR, 1.0)]
    what = [Aggregate(entity="u", operation=o, column="x", window=6 * HOUR) for o in ("sum", "mean")]  # type: ignore[arg-type]
    asked = rows_of([(1, NOON - 3 * HOUR), (1, NOON)])
    found = windows_at(asked, frame(log, pl.Float64()), what, keys=["user_id"], at="at")
    assert found.select(o.name for o in what).rows() == [(1e16, 5e15), (1.0, 1.0)]


@every_path
def test_w18_nor_does_a_huge_integer(path: Path) -> None:
    log = [at(NOON - 8 * HOUR, 10**16), at(NOON - 4 * HOUR, 1)]
    summed = [Aggregate(entity="u", operation="sum", column="x", window=6 * HOUR)]
    assert path(log, [(1, NOON - 3 * HOUR), (1, NOON)], summed) == [(10**16 + 1,), (1,)]


@every_path
def test_w19_neither_gaps_nor_keys_mix(path: Path) -> None:
    log = [
        at(NOON - 40 * DAY, 1),
        at(NOON - 2 * DAY, 2),
        at(NOON - HOUR, 3, key=2),
        at(NOON - HOUR, 4, key=3),
    ]
    summed = [Aggregate(entity="u", operation="sum", column="x", window=w) for w in (HOUR, 3 * DAY, 41 * DAY)]
    assert path(log, [(key, NOON) for key in (3, 1, 2)], summed) == [(4, 4, 4), (0, 2, 3), (3, 3, 3)]


@every_path
def test_w20_a_window_of_24_hours_has_86400_seconds_when_clocks_change(path: Path) -> None:
    after = datetime(2026, 3, 29, 12)  # Berlin's 29th began 23 h before its end
    log = [at(after - timedelta(seconds=86_400), 1), at(after - timedelta(seconds=86_400) - US, 2)]
    summed = [Aggregate(entity="u", operation="sum", column="x", window=DAY)]
    assert path(log, [(1, after)], summed) == [(1,)]


def test_w20_a_snapshots_day_is_the_logical_day_however_long() -> None:
    begin, end = (edge(date(2026, 3, 29), "Europe/Berlin") for edge in (day_start, day_end))
    assert end - begin == 23 * HOUR
    log = [at(begin - US, 1), at(begin, 2), at(end - US, 4), at(end, 8)]
    days = frame(log).with_columns(day=pl.Series([day_of(e[2], "Europe/Berlin") for e in log]))
    summed = [Aggregate(entity="u", operation="sum", column="x", window=DAY)]
    held = partials(days, summed, keys=["user_id"], bucket=["day"])
    found = snapshot(held, summed, keys=["user_id"], valid_from=date(2026, 3, 30))
    assert found.collect().rows() == [(1, 6)]


def of_the_day_before(log: Sequence[Told]) -> dict[str, Any]:
    """All operations over the day that ends at the next midnight, of what had arrived by then."""
    valid = NOON.date() + DAY
    midnight = datetime(valid.year, valid.month, valid.day)
    what = everything(DAY)
    parts = pl.concat(
        partials(frame(some), what, keys=["user_id"], bucket=["day"])
        for some in ([e for e in log if e[3] < NOON], [e for e in log if NOON <= e[3] < midnight])
    )
    found = snapshot(parts, what, keys=["user_id"], valid_from=valid).select(o.name for o in what).collect()
    return dict(zip(EMPTY, found.row(0), strict=True)) if len(found) else EMPTY


@pytest.mark.parametrize(
    ("case", "log", "wanted"),
    [
        ("W01", [at(NOON + 12 * HOUR, 9)], EMPTY),
        ("W02", [at(NOON - 12 * HOUR, 9)], one(9)),
        ("W03", [at(NOON - 12 * HOUR - US, 9)], EMPTY),
        ("W05", [at(NOON, 9, key=None)], EMPTY),
        ("W06", [at(NOON, x) for x in (4, None, 8)], {"rows": 3, "count": 2, "sum": 12, "mean": 6.0}),
        ("W07", [at(NOON, None)], {**EMPTY, "rows": 1}),
        ("W08", [at(NOON, 5, id="a"), at(NOON, 5, id="a")], one(5)),
        ("W09", [*(at(NOON - HOUR, x) for x in (10, 20, 30)), at(NOON, 100)], {"mean": 40.0}),
        ("W10", [at(NOON - n * HOUR, x) for n, x in ((1, 1), (1, 2), (0, 2), (0, 3))], {"distinct": 3}),
        ("W11", [at(NOON - DAY, 9), at(NOON, 3)], one(3)),
        ("W12", [at(NOON, 5, id="b"), at(NOON, 6, id="a"), at(NOON - HOUR, 7, late=2 * HOUR)], {"last": 5}),
        ("W13", [at(NOON, 9, late=12 * HOUR), at(NOON, 4)], one(4)),
        ("W18", [at(NOON - DAY, 10**16), at(NOON, 1)], one(1)),
    ],
)  # fmt: skip
def test_a_snapshot_decides_the_cases_as_every_instant_does(
    case: str, log: Sequence[Told], wanted: dict[str, Any]
) -> None:
    found = of_the_day_before(log)
    assert {name: found[name] for name in wanted} == wanted, case
    assert of_the_day_before(log[::-1]) == found, "W17"


def test_a_rate_is_smoothed_and_an_orphan_does_not_lift_it_above_one() -> None:
    rate = Rate(entity="u", action="click", per="impression", window=DAY, prior=0.2, strength=5)
    log = [at(NOON - n * HOUR, n) for n in range(1, 5)]
    kinds = frame(log).with_columns(kind=pl.Series(["impression", "click", "click", "click"]))
    found = windows_at(rows_of([(1, NOON), (2, NOON)]), kinds, [rate], keys=["user_id"], at="at")
    assert found[rate.name].to_list() == [pytest.approx((1 + 5 * 0.2) / (1 + 5)), 0.2]


@pytest.mark.parametrize("kind", ["integers", "strings"])
def test_a_sketch_is_off_by_its_stated_standard_error(kind: str) -> None:
    """Root mean square of the relative error over 200 disjoint sets of values."""
    assert pytest.approx(0.01625) == distinct.STANDARD_ERROR
    for many in (20_000, 60_000):
        group = np.repeat(np.arange(200), many // 20)
        values = pl.Series(np.arange(len(group)))
        entries = distinct.entries(values if kind == "integers" else values.cast(pl.String))
        sketches = pl.DataFrame({"group": group, "entry": entries})
        summed = sketches.group_by("group").agg(distinct.summary(pl.col("entry")).alias("s"))
        found = summed.select(distinct.estimate(pl.col("s")))["s"].to_numpy()
        error = np.sqrt(np.mean((found / (many // 20) - 1) ** 2))
        assert error < 1.15 * distinct.STANDARD_ERROR


def test_a_sketch_of_many_values_is_off_by_little_more_than_one() -> None:
    for many in (0, 1, 2, 10, 10**6):
        frame = pl.DataFrame({"x": np.arange(many)}, schema={"x": pl.Int64})
        summed = frame.select(distinct.summary(pl.col("x").map_batches(distinct.entries)).alias("s"))
        found = summed.select(distinct.estimate(pl.col("s"))).item()
        assert abs(found - many) <= 4 * distinct.STANDARD_ERROR * many


def test_a_sketch_of_days_counts_values_that_come_back_once() -> None:
    what = [Aggregate(entity="u", operation="distinct_approx", column="x", window=2 * DAY)]
    log = [at(NOON - tile * DAY, x) for tile in (0, 1) for x in range(100 * tile, 100 * tile + 200)]
    held = partials(frame(log), what, keys=["user_id"], bucket=["day"])
    found = snapshot(held, what, keys=["user_id"], valid_from=date(2026, 1, 6)).collect()
    assert found["u_x_distinct_approx_2d"].item() == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (HOUR, "1h"),
        (DAY, "1d"),
        (24 * HOUR, "1d"),
        (36 * HOUR, "36h"),
        (70 * MINUTE, "70m"),
        (90 * DAY, "90d"),
    ],
)
def test_names_say_entity_action_column_operation_and_window(window: timedelta, name: str) -> None:
    assert label(window) == name
    price = Aggregate(entity="user", operation="sum", column="price", window=window)
    click = Aggregate(entity="user", operation="count", action="click", window=window)
    assert (price.name, click.name) == (f"user_price_sum_{name}", f"user_click_count_{name}")


@pytest.mark.parametrize("window", [59 * MINUTE, 90 * DAY + HOUR, HOUR + US])
def test_a_window_outside_its_bounds_is_refused(window: timedelta) -> None:
    with pytest.raises(ValueError, match="1 h to 90 d long, in whole minutes"):
        Aggregate(entity="u", operation="count", window=window)


def ask(
    log: pl.LazyFrame, what: Sequence[Windowed], rows: pl.DataFrame | None = None, **more: Any
) -> pl.DataFrame:
    asked = rows_of([(1, NOON)]) if rows is None else rows
    return windows_at(asked, log, what, keys=["user_id"], at="at", **more)


def test_what_cannot_be_answered_is_refused_by_name() -> None:
    summed = Aggregate(entity="u", operation="sum", column="x", window=DAY)
    sketch = Aggregate(entity="u", operation="distinct_approx", column="x", window=DAY)
    clicks = Aggregate(entity="u", operation="count", action="click", window=DAY)
    log = frame([at(NOON - HOUR)])
    with pytest.raises(UsageError, match=r"x_sketch.*use distinct"):
        ask(log, [sketch])
    with pytest.raises(SchemaDrift, match="missing column 'kind'"):
        ask(log, [clicks])
    with pytest.raises(SchemaDrift, match=r"x_sum.*is String"):
        ask(log.with_columns(x=pl.lit("1")), [summed])
    with pytest.raises(SchemaDrift, match=r"Int64 in the rows, String beside them"):
        ask(log.with_columns(user_id=pl.lit("1")), [summed])
    with pytest.raises(NoInstant, match="1 rows have null 'at'"):
        ask(log, [summed], rows_of([(1, None)]))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="already have columns"):
        ask(log, [summed], rows_of([(1, NOON)]).with_columns(u_x_sum_1d=1))
    with pytest.raises(UsageError, match="no aggregate"):
        ask(log, [])
    for strange in (float("nan"), float("inf")):
        with pytest.raises(NotFinite, match="values 'x' of windows: 1 such as"):
            ask(log.with_columns(x=pl.lit(strange)), [summed])
    other = Aggregate(entity="u", operation="sum", column="x", window=70 * MINUTE)
    held = partials(log, [other], keys=["user_id"], bucket=["day"])
    with pytest.raises(UsageError, match=r"windows .*1:10:00.*whole days, or hours below a day"):
        snapshot(held, [other], keys=["user_id"], valid_from=date(2026, 1, 6))
    held = partials(log, [summed], keys=["user_id"], bucket=["day"])
    known = calendar([date(2026, 1, 4)], "UTC")
    with pytest.raises(UsageError, match="until when the parts were made"):
        ask(log, [summed], parts=Parts(rows=held, bucket="day", calendar=known, until=NOON + US))
    with pytest.raises(UsageError, match=r"2026-01-05.* not in it"):
        ask(log, [summed], parts=Parts(rows=held, bucket="day", calendar=known, until=NOON))


def test_two_aggregates_may_not_share_a_column() -> None:
    one_ = Aggregate(entity="u", operation="sum", action="a_b", column="c", window=DAY)
    other = Aggregate(entity="u", operation="sum", action="a", column="b_c", window=DAY)
    with pytest.raises(ValueError, match=r"share columns.*u_a_b_c_sum_1d"):
        ask(frame([]), [one_, other])
