"""Each kind of dirt in the KuaiRand log gets the verdict that is written for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

import sql
from features.calendar import calendar
from features.scenario import Source
from features.scenarios.kuairand import SCENARIO

DAY = date(2022, 4, 26)
#: The day begins at midnight in Shanghai.
START = datetime(2022, 4, 25, 16)
HOUR = timedelta(hours=1)
Row = dict[str, object]
Judge = Callable[..., pl.DataFrame]


def ms(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


def row(at: datetime = START + 3 * HOUR, **changes: object) -> Row:
    """A raw row; the log's own date and clock follow its time unless they are told otherwise."""
    return {
        "user_id": 7,
        "video_id": 11,
        "date": 20220426,
        "hourmin": 300,
        "time_ms": ms(at),
        "is_click": 1,
        "long_view": 0,
        "is_like": 0,
        "tab": 1,
    } | changes


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Runs a source's query over literal rows of the delivery of ``DAY``."""

    def run(source: str, *rows: Row, earlier: tuple[str, ...] = ()) -> pl.DataFrame:
        declared: Source = SCENARIO.source(source)
        file = tmp_path / f"{source}.parquet"
        ints = [name for name in row() if name != "hourmin"]
        pl.DataFrame(rows, schema_overrides=dict.fromkeys(ints, pl.Int64)).write_parquet(file)
        query = sql.load(declared.query)
        with duckdb.connect() as connection:
            connection.register(
                "calendar", calendar([DAY - timedelta(days=1), DAY], SCENARIO.zone).to_arrow()
            )
            known = pl.DataFrame({declared.key: earlier}, schema={declared.key: pl.String})
            connection.register("earlier", known.to_arrow())
            values = {
                "files": [str(file)],
                "arrives_at": START,
                "oldest_ms": ms(datetime(2000, 1, 1)),
                "newest_ms": ms(datetime(2100, 1, 1)),
                **declared.params,
            }
            bound = {name: value for name, value in values.items() if name in query.params}
            return connection.sql(query.text, params=bound).pl()

    return run


def verdicts(found: pl.DataFrame) -> list[str | None]:
    return sorted(found["verdict"].to_list(), key=str)


@pytest.mark.parametrize("source", ["exposure", "click"])
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([row()], [None], id="a row"),
        pytest.param([row(), row()], ["DUPLICATE", None], id="an exact copy"),
        pytest.param([row(), row(hourmin=2359)], ["DUPLICATE", None], id="a copy with another hourmin"),
        pytest.param([row(), row(date=20220401)], ["DUPLICATE", None], id="a copy with another date"),
        pytest.param([row(), row(video_id=12), row(user_id=8)], [None] * 3, id="another user or item"),
        pytest.param([row(), row(START + 3 * HOUR + timedelta(milliseconds=1))], [None] * 2, id="1 ms later"),
        pytest.param([row(date=20220401)], [None], id="a date that disagrees with the time"),
        pytest.param([row(START - timedelta(minutes=1))], [None], id="the last hour of the day before"),
        pytest.param([row(START - 24 * HOUR)], [None], id="the first instant of the day before"),
        pytest.param(
            [row(START - 24 * HOUR - timedelta(milliseconds=1))], ["OUTSIDE_DELIVERY"], id="two days before"
        ),
        pytest.param([row(START + 24 * HOUR - timedelta(milliseconds=1))], [None], id="the last instant"),
        pytest.param([row(START + 24 * HOUR)], ["OUTSIDE_DELIVERY"], id="the next day"),
        pytest.param([row(user_id=None)], ["NULL_KEY"], id="no user"),
        pytest.param([row(video_id=None)], ["NULL_KEY"], id="no item"),
        pytest.param([row(time_ms=None)], ["TIME_OUT_OF_RANGE"], id="no time"),
        pytest.param([row(time_ms=0)], ["TIME_OUT_OF_RANGE"], id="time zero"),
        pytest.param([row(time_ms=1_650_900_000)], ["TIME_OUT_OF_RANGE"], id="seconds"),
        pytest.param([row(time_ms=1_650_900_000_000_000)], ["TIME_OUT_OF_RANGE"], id="microseconds"),
        pytest.param([row(time_ms=2**63 - 1)], ["TIME_OUT_OF_RANGE"], id="the largest number"),
        pytest.param([row(user_id=None, time_ms=None)], ["NULL_KEY"], id="nothing at all"),
    ],
)
def test_verdict(judge: Judge, source: str, rows: list[Row], expected: list[str | None]) -> None:
    assert verdicts(judge(source, *rows)) == expected


@pytest.mark.parametrize(
    ("flag", "expected"),
    [(1, [None]), (0, []), (2, ["BAD_FLAG"]), (-1, ["BAD_FLAG"]), (None, ["BAD_FLAG"])],
)
@pytest.mark.parametrize(
    ("source", "column"), [("click", "is_click"), ("long_view", "long_view"), ("like", "is_like")]
)
def test_each_action_reads_its_own_flag(
    judge: Judge, source: str, column: str, flag: int | None, expected: list[str | None]
) -> None:
    others = dict.fromkeys(("is_click", "long_view", "is_like"), 0) | {column: flag}
    assert verdicts(judge(source, row(**others))) == expected


@pytest.mark.parametrize("minutes", [(1, 2), (2, 1)])
def test_a_copy_that_says_nothing_does_not_hide_the_one_that_does(
    judge: Judge, minutes: tuple[int, int]
) -> None:
    unclear, clear = minutes
    rows = (row(hourmin=unclear, is_click=2), row(hourmin=clear, is_click=1))
    assert verdicts(judge("click", *rows)) == ["BAD_FLAG", None]


def test_an_exposure_without_any_action_is_still_an_exposure(judge: Judge) -> None:
    assert verdicts(judge("exposure", row(is_click=None, long_view=5))) == [None]


def test_a_copy_of_an_earlier_delivery_is_a_duplicate(judge: Judge) -> None:
    late = START - timedelta(minutes=1)
    key = f"7-11-{ms(late)}"
    assert verdicts(judge("exposure", row(late), earlier=(key,))) == ["DUPLICATE"]
    assert verdicts(judge("click", row(late), earlier=(key,))) == ["DUPLICATE"]
    assert verdicts(judge("exposure", row(late), earlier=(f"7-12-{ms(late)}",))) == [None]


def test_a_late_row_belongs_to_the_day_of_its_time_and_arrives_when_its_delivery_begins(judge: Judge) -> None:
    late, on_time = START - timedelta(minutes=1), START + HOUR
    found = judge("exposure", row(late), row(on_time)).sort("exposed_at")
    assert found.select("day", "exposed_at", "arrived_at").rows() == [
        (DAY - timedelta(days=1), late, START),
        (DAY, on_time, on_time),
    ]


def test_keys_of_exposure_and_action_agree(judge: Judge) -> None:
    exposure, click = judge("exposure", row()), judge("click", row())
    assert exposure["impression_id"].to_list() == [f"7-11-{ms(START + 3 * HOUR)}"]
    assert click.select("event_id", "impression_id").rows() == [
        (exposure["impression_id"][0], exposure["impression_id"][0])
    ]


def test_the_refused_row_is_kept_as_it_was_delivered(judge: Judge) -> None:
    (text,) = judge("exposure", row(user_id=None, hourmin=1234))["row_text"]
    assert "'user_id': NULL" in text
    assert "'hourmin': 1234" in text


def test_attributes_replace_the_publishers_codes_for_unknown(tmp_path: Path) -> None:
    raw = SCENARIO.source("item").raw
    values = {
        "video_id": 5, "author_id": 0, "video_type": "AD", "upload_type": "x", "video_duration": 1500.0,
        "server_width": 0.0, "server_height": 10.0, "music_id": 0, "music_type": 9.0, "tag": "3,40",
    }  # fmt: skip
    file = tmp_path / "item.parquet"
    with duckdb.connect() as connection:
        literal = ", ".join(f"${name}::{kind} AS {name}" for name, kind in raw.items())
        connection.sql(f"SELECT {literal}", params=values).write_parquet(str(file))
        found = connection.sql(sql.load("logs/kuairand/item").text, params={"files": [str(file)]})
        (item,) = found.pl().rows(named=True)
    assert (item["author_id"], item["music_id"], item["aspect"]) == (None, None, None)
    assert (item["duration_s"], item["music_type"], item["tags"]) == (1.5, 9, [3, 40])
