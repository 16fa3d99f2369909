"""What was known at an instant: the numbered point-in-time cases, on every engine.

The numbers are those of the case list in the design notes, and so are the wanted values: user 1 asks at
12:00, and a version is (event, arrival, value). Where a case leaves the arrival open, it is the event time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from features.as_of_ready import as_of_ready
from features.engine import Limits
from features.point_in_time import pit_join

ENGINES = ("polars", "duckdb")
DAY = datetime(2026, 3, 2)
NOON = DAY.replace(hour=12)
US = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
UTC_US = pl.Datetime("us")

Ask = Callable[..., list[Any]]


def clock(text: str) -> datetime:
    """``HH:MM[:SS[.ffffff]]`` of the day."""
    return datetime.combine(DAY, datetime.strptime(text, "%H:%M:%S.%f" if "." in text else "%H:%M").time())


def history(*versions: tuple[Any, ...], key: pl.DataType | None = None) -> pl.LazyFrame:
    """Versions (event, arrival, value), of user 1, or (event, arrival, value, user)."""
    rows = [(*version[:3], version[3] if len(version) > 3 else 1) for version in versions]
    schema = {"happened": UTC_US, "written": UTC_US, "value": pl.Float64, "user": key or pl.Int64}
    return pl.LazyFrame(rows, schema=schema, orient="row")


def now(*versions: tuple[Any, ...]) -> pl.LazyFrame:
    """Versions (event, value[, user]) that arrive as they happen."""
    return history(*((event, event, *rest) for event, *rest in versions))


def asking(*rows: tuple[Any, Any], key: pl.DataType | None = None) -> pl.LazyFrame:
    return pl.LazyFrame(list(rows), schema={"user": key or pl.Int64, "at": UTC_US}, orient="row")


ONE = asking((1, NOON))


@pytest.fixture(params=ENGINES)
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Ask:
    """Values of the rows, in the rows' order; all columns of the rows must be back untouched."""

    def answers(
        rows: pl.LazyFrame,
        known: pl.LazyFrame,
        max_age: timedelta | None = None,
        keys: Sequence[str] = ("user",),
        value: str = "value",
    ) -> list[Any]:
        ready = as_of_ready(known, keys=keys, event_time="happened", arrived_at="written", fields=[value])
        joined = pit_join(
            rows,
            ready,
            keys=keys,
            at="at",
            fields=[value],
            max_age=max_age,
            engine=request.param,
            limits=Limits(memory="200MB", threads=2, scratch=tmp_path),
        ).collect()
        assert joined.drop(value).equals(rows.collect())
        return joined[value].to_list()

    return answers


@pytest.fixture
def new_york_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose own zone is not UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_P01_a_version_of_exactly_the_instant_is_known(ask: Ask) -> None:
    assert ask(ONE, now((NOON, 5))) == [5]


def test_P02_a_version_one_microsecond_later_is_not(ask: Ask) -> None:
    assert ask(ONE, now((NOON + US, 9), (clock("11:00"), 5))) == [5]


def test_P03_a_version_of_exactly_the_greatest_age_counts(ask: Ask) -> None:
    assert ask(ONE, now((clock("11:00"), 5)), HOUR) == [5]


def test_P04_a_version_one_microsecond_older_does_not_and_the_row_stays(ask: Ask) -> None:
    assert ask(ONE, now((clock("10:59:59.999999"), 5)), HOUR) == [None]


def test_P05_without_a_greatest_age_a_version_400_days_old_counts(ask: Ask) -> None:
    assert ask(ONE, now((NOON - timedelta(days=400), 5))) == [5]


def test_P06_a_key_with_only_future_versions_gets_null_and_its_neighbour_its_value(ask: Ask) -> None:
    known = now((clock("13:00"), 9), (clock("14:00"), 8), (clock("11:00"), 7, 2))
    assert ask(asking((1, NOON), (2, NOON)), known) == [None, 7]


def test_P07_a_key_with_only_expired_versions_gets_null_and_its_neighbour_its_value(ask: Ask) -> None:
    known = now((clock("09:00"), 9), (clock("10:00"), 8), (clock("11:30"), 7, 2))
    assert ask(asking((1, NOON), (2, NOON)), known, HOUR) == [None, 7]


def test_P08_an_unknown_key_gets_null(ask: Ask) -> None:
    assert ask(asking((1, NOON), (99, NOON)), now((clock("11:00"), 5))) == [5, None]


def test_P09_a_null_key_matches_no_null_key(ask: Ask) -> None:
    known = now((clock("11:00"), 9, None), (clock("11:00"), 5))
    assert ask(asking((None, NOON), (1, NOON)), known) == [None, 5]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_P10_of_three_versions_of_one_event_the_last_to_arrive_counts(
    ask: Ask, order: tuple[int, ...]
) -> None:
    event = clock("09:00")
    versions = [(event, clock(f"{hour:02}:00"), value) for hour, value in ((9, 1), (10, 2), (11, 3))]
    assert ask(ONE, history(*(versions[place] for place in order))) == [3]


def test_P11_a_backfill_of_an_older_event_does_not_win(ask: Ask) -> None:
    known = history((clock("09:00"), clock("11:59"), 30), (clock("10:00"), clock("10:05"), 40))
    assert ask(ONE, known) == [40]


def test_P12_a_version_of_the_same_event_that_arrives_later_is_not_known(ask: Ask) -> None:
    event = clock("10:00")
    assert ask(ONE, history((event, clock("11:00"), 4), (event, clock("13:00"), 6))) == [4]


def test_P13_a_version_that_arrives_at_exactly_the_instant_is_known(ask: Ask) -> None:
    assert ask(ONE, history((clock("10:00"), NOON, 5))) == [5]
    assert ask(ONE, history((clock("10:00"), NOON + US, 5))) == [None]


def test_P14_when_all_arrive_later_the_row_stays_with_null(ask: Ask) -> None:
    known = history((clock("10:00"), clock("12:30"), 4), (clock("11:00"), clock("13:00"), 6))
    assert ask(ONE, known) == [None]


def test_P15_the_newest_event_counts_from_its_arrival_on(ask: Ask) -> None:
    known = history((clock("09:00"), clock("09:30"), 1), (clock("11:00"), clock("15:00"), 2))
    assert ask(asking((1, NOON), (1, clock("16:00"))), known) == [1, 2]


def test_P16_a_version_without_arrival_is_never_known(ask: Ask) -> None:
    known = history((clock("09:00"), clock("09:30"), 1), (clock("11:00"), None, 2))
    assert ask(ONE, known) == [1]


def test_P17_a_correction_of_an_old_event_does_not_hide_a_newer_event(ask: Ask) -> None:
    known = history((clock("10:00"), clock("10:05"), 2), (clock("08:00"), clock("11:00"), 1))
    assert ask(ONE, known) == [2]


def test_P18_a_null_in_the_newest_version_is_its_value(ask: Ask) -> None:
    assert ask(ONE, now((clock("10:00"), 5), (clock("11:00"), None))) == [None]


def test_P19_two_equal_rows_and_a_third_are_three_rows(ask: Ask) -> None:
    rows = asking((1, NOON), (1, NOON), (1, clock("10:30")))
    assert ask(rows, now((clock("10:00"), 4), (clock("11:00"), 5))) == [5, 5, 4]


def test_P20_a_slate_of_one_user_and_instant_keeps_each_item(ask: Ask) -> None:
    slate = pl.LazyFrame({"user": [1, 1, 1], "item": [10, 20, 30], "at": [NOON] * 3})
    assert ask(slate, now((clock("11:00"), 5))) == [5, 5, 5]
    items = now((clock("11:00"), 7, 10), (clock("11:30"), 8, 30)).rename({"user": "item"})
    assert ask(slate, items, keys=["item"]) == [7, None, 8]


def test_P21_an_instant_written_in_tokyo_is_the_same_instant(ask: Ask) -> None:
    rows = ONE.with_columns(pl.col("at").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"))
    assert ask(rows, now((NOON + US, 9), (NOON, 5), (clock("03:00"), 1))) == [5]


@pytest.mark.usefixtures("new_york_session")
def test_P22_P23_instants_without_zone_are_utc_whatever_the_session_zone_is(ask: Ask) -> None:
    zoned = ONE.with_columns(pl.col("at").dt.replace_time_zone("UTC"))
    known = now((clock("11:59"), 5), (clock("12:01"), 9))
    assert ask(ONE, known) == ask(zoned, known) == [5]
    assert ask(ONE, known.with_columns(pl.col("happened", "written").dt.replace_time_zone("UTC"))) == [5]


def test_P24_a_version_400_nanoseconds_later_is_not_known(ask: Ask) -> None:
    instant = int(NOON.replace(tzinfo=UTC).timestamp()) * 10**9
    for late, wanted in ((400, [5]), (0, [9])):
        ticks = {"happened": [instant + late, instant - 10**9], "written": [instant - 10**9] * 2}
        known = pl.LazyFrame({"user": [1, 1], **ticks, "value": [9.0, 5.0]}).with_columns(
            pl.col("happened", "written").cast(pl.Datetime("ns"))
        )
        assert ask(ONE, known) == wanted


def test_P25_parts_of_a_text_key_stay_apart(ask: Ask) -> None:
    parts = {"a": ["1", "11"], "b": ["11", "1"]}
    known = pl.LazyFrame({**parts, "happened": [DAY] * 2, "written": [DAY] * 2, "value": [1, 2]})
    rows = pl.LazyFrame({"a": ["11", "1", "111"], "b": ["1", "11", ""], "at": [NOON] * 3})
    assert ask(rows, known, keys=["a", "b"]) == [2, 1, None]


@pytest.mark.parametrize(
    ("mine", "theirs"), [(pl.Int64, pl.Int64), (pl.String, pl.String), (pl.UInt64, pl.Int64)]
)
def test_P26_a_composite_key_with_one_null_part_matches_nothing(
    ask: Ask, mine: pl.DataType, theirs: pl.DataType
) -> None:
    # No unsigned number equals -1, and that must not make it a null that equals another.
    parts = {"a": [1, 1, None, -1], "b": [None, 2, 2, 2]}
    known = pl.LazyFrame({**parts, "happened": [DAY] * 4, "written": [DAY] * 4, "value": [1, 2, 3, 4]})
    rows = pl.LazyFrame({"a": [1, 1, None, None], "b": [None, 2, 2, None], "at": [NOON] * 4})
    asked, held = (frame.cast({"a": kind, "b": kind}) for frame, kind in ((rows, mine), (known, theirs)))
    assert ask(asked, held, keys=["a", "b"]) == [None, 2, None, None]


def test_P27_an_empty_view_gives_a_column_of_nulls(ask: Ask) -> None:
    assert ask(asking((1, NOON), (2, NOON)), history()) == [None, None]
    assert ask(asking(), now((NOON, 5))) == []


def test_P28_years_before_1970_and_far_ahead_are_instants_like_others(ask: Ask) -> None:
    old, far = datetime(1969, 7, 20, 20, 17, 40, 1), datetime(2200, 1, 1)
    known = now((old, 1), (far, 2))
    rows = asking((1, old - US), (1, old), (1, far - US), (1, far))
    assert ask(rows, known) == [None, 1, 1, 2]
    assert ask(rows, known, HOUR) == [None, 1, None, 2]


def test_P29_the_repeated_hour_in_new_york_is_two_instants(ask: Ask) -> None:
    zone = ZoneInfo("America/New_York")
    first, second = (datetime(2026, 11, 1, 1, 30, tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    assert second - first == HOUR
    zoned = pl.col("at").dt.convert_time_zone("America/New_York")
    rows = pl.LazyFrame({"user": [1, 1], "at": [first, second]}).with_columns(zoned)
    known = now((first.replace(tzinfo=None), 1), (second.replace(tzinfo=None), 2))
    assert ask(rows, known) == [1, 2]


def test_P30_24_hours_of_age_are_24_hours_on_the_day_of_23(ask: Ask) -> None:
    zone = ZoneInfo("Europe/Berlin")
    at = datetime(2026, 3, 29, 12, tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
    same_wall_time = datetime(2026, 3, 28, 12, tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
    assert at - same_wall_time == timedelta(hours=23)
    rows, age = asking((1, at)), timedelta(hours=24)
    assert ask(rows, now((at - age, 5)), age) == [5]
    assert ask(rows, now((at - age - timedelta(seconds=1), 5)), age) == [None]


def test_P31_a_version_without_event_time_is_never_known(ask: Ask) -> None:
    assert ask(ONE, history((None, clock("09:00"), 9), (clock("08:00"), clock("08:00"), 5))) == [5]


def test_P32_several_instants_of_a_key_get_each_its_own_value(ask: Ask) -> None:
    known = now(*((clock(f"{hour:02}:00"), hour) for hour in (9, 7, 11, 8, 10)))
    hours = (10, 6, 11, 8, 9, 7, 10)
    rows = asking(*((1, clock(f"{hour:02}:30")) for hour in hours))
    assert ask(rows, known) == [10, None, 11, 8, 9, 7, 10]


@pytest.mark.parametrize(("mine", "theirs"), [(pl.Int32, pl.Int64), (pl.Int64, pl.Int32)])
def test_P33_integer_keys_match_whatever_their_width(
    ask: Ask, mine: pl.DataType, theirs: pl.DataType
) -> None:
    assert ask(asking((1, NOON), key=mine), history((DAY, DAY, 5), key=theirs)) == [5]


def test_P34_of_600_keys_shuffled_the_last_version_to_arrive_counts_everywhere(ask: Ask) -> None:
    draw, event = Random(34), clock("09:00")
    versions = [
        (event, event + HOUR * place, user * 10 + place, user) for user in range(600) for place in range(3)
    ]
    draw.shuffle(versions)
    users = draw.sample(range(600), 600)
    assert ask(asking(*((user, NOON) for user in users)), history(*versions)) == [u * 10 + 2 for u in users]
