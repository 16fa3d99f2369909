"""What the join promises beside its values, and what it refuses."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.as_of_ready import as_of_ready
from features.engine import Limits
from features.errors import (
    AmbiguousHistory,
    BrokenPromise,
    FunnelcastError,
    NoInstant,
    SchemaDrift,
    UsageError,
)
from features.point_in_time import pit_join

NOON = datetime(2026, 3, 2, 12)
HOUR, US = timedelta(hours=1), timedelta(microseconds=1)
ROWS = pl.LazyFrame({"user": [2, 1, 3], "at": [NOON] * 3, "note": ["b", "a", "c"]})
HISTORY = pl.LazyFrame(
    {
        "user": [1, 1, 2],
        "happened": [NOON - 3 * HOUR, NOON - HOUR, NOON - 2 * HOUR],
        "written": [NOON - 3 * HOUR, NOON - HOUR, NOON - HOUR],
        "likes": [10, 11, 20],
        "tags": [["x"], [], None],
    }
)


def ready(history: pl.LazyFrame = HISTORY, **changed: Any) -> pl.LazyFrame:
    asked = {"keys": ["user"], "event_time": "happened", "arrived_at": "written", "fields": ["likes", "tags"]}
    return as_of_ready(history, **{**asked, **changed})


def join(rows: pl.LazyFrame = ROWS, view: pl.LazyFrame | None = None, **changed: Any) -> pl.LazyFrame:
    asked: dict[str, Any] = {"keys": ["user"], "at": "at", "fields": ["likes", "tags"], "max_age": None}
    return pit_join(rows, ready() if view is None else view, **{**asked, **changed})


@pytest.fixture(params=["polars", "duckdb"])
def on_engine(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Arguments that choose an engine."""
    limits = Limits(memory="200MB", threads=2, scratch=tmp_path)
    return {"engine": request.param, "limits": limits}


def test_fields_of_any_type_come_behind_the_columns_of_the_rows(on_engine: dict[str, Any]) -> None:
    joined = join(**on_engine)
    wanted = {
        "user": [2, 1, 3],
        "at": [NOON] * 3,
        "note": ["b", "a", "c"],
        "likes": [20, 11, None],
        "tags": [None, [], None],
    }
    assert joined.collect().equals(pl.DataFrame(wanted))
    assert joined.collect_schema() == joined.collect().schema


def test_a_view_joined_twice_under_renamed_keys_gives_prefixed_fields(on_engine: dict[str, Any]) -> None:
    rows = pl.LazyFrame({"viewer": [1, 2], "author": [2, 9], "at": [NOON] * 2})
    once = join(rows, keys={"viewer": "user"}, fields=["likes"], prefix="viewer_", **on_engine)
    twice = join(once, keys={"author": "user"}, fields=["likes"], prefix="author_", **on_engine)
    assert twice.select("viewer_likes", "author_likes").collect().rows() == [(11, 20), (20, None)]


def test_a_publish_delay_stands_for_the_arrival(on_engine: dict[str, Any]) -> None:
    view = ready(arrived_at=None, publish_delay=HOUR)
    instants = [NOON - US, NOON]
    rows = pl.LazyFrame({"user": [1, 1], "at": instants})
    assert join(rows, view, fields=["likes"], **on_engine).collect()["likes"].to_list() == [10, 11]
    # The age counts from the event, not from its publication.
    young = join(rows, view, fields=["likes"], max_age=HOUR, **on_engine)
    assert young.collect()["likes"].to_list() == [None, 11]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (pl.UInt8, pl.Int64),
        (pl.UInt64, pl.Int16),
        (pl.Int64, pl.UInt64),
        (pl.String, pl.Categorical),
        (pl.Categorical, pl.String),
        (pl.Enum(["1", "2", "3"]), pl.String),
        (pl.Date, pl.Date),
    ],
)
def test_keys_of_one_meaning_match_in_any_type(mine: Any, theirs: Any, on_engine: dict[str, Any]) -> None:
    rows, view = ROWS.with_columns(pl.col("user").cast(pl.Int32)), ready()
    if not pl.Series(dtype=mine).dtype.is_integer() and mine != pl.Date:
        rows, view = (frame.with_columns(pl.col("user").cast(pl.String)) for frame in (rows, view))
    rows, view = rows.with_columns(pl.col("user").cast(mine)), view.with_columns(pl.col("user").cast(theirs))
    assert join(rows, view, **on_engine).collect()["likes"].to_list() == [20, 11, None]


def test_integer_keys_of_64_bits_stay_exact(on_engine: dict[str, Any]) -> None:
    near = [2**63 - 1, 2**63 - 2, -(2**63), 2**53, 2**53 + 1]
    history = pl.LazyFrame({"user": near, "happened": [NOON] * 5, "written": [NOON] * 5, "likes": range(5)})
    rows = pl.LazyFrame({"user": [*reversed(near), 0], "at": [NOON] * 6})
    asked = {"fields": ["likes"], **on_engine}
    assert join(rows, ready(history, fields=["likes"]), **asked).collect()["likes"].to_list() == [
        4, 3, 2, 1, 0, None,
    ]  # fmt: skip
    # -1 as 64 bits without a sign would be 2**64 - 1.
    signed = history.with_columns(user=pl.Series([-1, 1, 2, 3, 4]))
    unsigned = pl.LazyFrame({"user": [2**64 - 1, 1], "at": [NOON] * 2}, schema_overrides={"user": pl.UInt64})
    found = join(unsigned, ready(signed, fields=["likes"]), **asked).collect()["likes"]
    assert found.to_list() == [None, 1]


@pytest.mark.parametrize("far", [10, 2**20, 2**40, 2**62])
def test_composite_integer_keys_never_meet_whatever_their_range(far: int, on_engine: dict[str, Any]) -> None:
    keys = [(a, b) for a in (-far, 0, far) for b in (-far, 7, far)]
    held, absent = keys[::2], keys[1::2]
    history = pl.LazyFrame(held, schema=["a", "b"], orient="row").with_columns(
        happened=pl.lit(NOON), written=pl.lit(NOON), likes=pl.int_range(len(held))
    )
    outside = [(-far - 1, far), (far, far + 1), (0, -far - 1), (far + 1, -far)]
    rows = pl.LazyFrame([*absent, *held, *outside], schema=["a", "b"], orient="row").with_columns(
        at=pl.lit(NOON)
    )
    view = ready(history, keys=["a", "b"], fields=["likes"])
    found = join(rows, view, keys=["a", "b"], fields=["likes"], **on_engine).collect()["likes"].to_list()
    assert found == [None] * 4 + list(range(5)) + [None] * 4


def test_instants_of_rows_are_rounded_down_and_those_of_versions_up(on_engine: dict[str, Any]) -> None:
    # 1969 and 1970: towards zero and downwards differ before the epoch.
    for base in (-(10**9), 10**9):
        ticks = pl.Series([base - 1, base, base + 1, base + 999, base + 1000]).cast(pl.Datetime("ns"))
        history = pl.LazyFrame({"user": [1], "likes": [5], "t": [base], "early": [base - 5000]}).with_columns(
            pl.col("t", "early").cast(pl.Datetime("ns"))
        )
        rows = pl.LazyFrame({"user": [1] * 5, "at": ticks})
        for late, wanted in ((0, [None, 5, 5, 5, 5]), (1, [None, None, None, None, 5])):
            later = history.with_columns(pl.col("t") + pl.duration(nanoseconds=late, time_unit="ns"))
            for event, arrival in (("t", "t"), ("t", "early"), ("early", "t")):
                view = ready(later, event_time=event, arrived_at=arrival, fields=["likes"])
                assert join(rows, view, fields=["likes"], **on_engine).collect()["likes"].to_list() == wanted


def test_milliseconds_are_instants_too(on_engine: dict[str, Any]) -> None:
    history = HISTORY.with_columns(pl.col("happened", "written").cast(pl.Datetime("ms")))
    rows = ROWS.with_columns(pl.col("at").cast(pl.Datetime("ms", "Asia/Tokyo")))
    assert join(rows, ready(history), **on_engine).collect()["likes"].to_list() == [20, 11, None]


def test_rows_that_stream_in_batches_come_back_in_their_place(tmp_path: Path) -> None:
    rows = pl.DataFrame({"row": range(50_000), "user": [n * 7 % 4 for n in range(50_000)]}).with_columns(
        at=NOON
    )
    rows.write_parquet(tmp_path / "rows.parquet", row_group_size=1_000)
    joined = join(pl.scan_parquet(tmp_path / "rows.parquet"), fields=["likes"])
    joined.sink_parquet(tmp_path / "joined.parquet")
    found = pl.read_parquet(tmp_path / "joined.parquet")
    assert found.drop("likes").equals(rows)
    assert found["likes"].to_list() == [{1: 11, 2: 20}.get(n * 7 % 4) for n in range(50_000)]
    batches = list(joined.collect_batches(engine="streaming", maintain_order=True))
    assert len(batches) > 1
    assert pl.concat(batches).equals(found)


def test_a_stored_view_need_not_be_sorted(on_engine: dict[str, Any], tmp_path: Path) -> None:
    ready().collect().reverse().write_parquet(tmp_path / "view.parquet")
    stored = pl.scan_parquet(tmp_path / "view.parquet")
    assert join(view=stored, **on_engine).collect().equals(join(**on_engine).collect())


def test_only_versions_within_reach_are_read_and_both_edges_are_within(on_engine: dict[str, Any]) -> None:
    for at in (NOON, NOON - HOUR, NOON - 2 * HOUR):
        rows = ROWS.with_columns(at=pl.lit(at))
        for age in (timedelta(0), HOUR, 2 * HOUR, None):
            near = join(rows, between=(at, at), max_age=age, **on_engine).collect()
            assert near.equals(join(rows, max_age=age, **on_engine).collect())
    with pytest.raises(NoInstant, match=r"rows lie outside 2026-03-02 12:00:00\.000001 to"):
        join(between=(NOON + US, NOON + HOUR), **on_engine).collect()


def test_repeated_versions_are_one() -> None:
    assert ready(pl.concat([HISTORY, HISTORY])).collect().equals(ready().collect())


def test_policy_one_version_with_two_values_is_refused() -> None:
    twice = pl.concat([HISTORY, HISTORY.filter(pl.col("likes") == 20).with_columns(pl.col("likes") + 1)])
    with pytest.raises(AmbiguousHistory, match=r"E408.*1 versions come with different.*\{'user': 2\}.*Next"):
        ready(twice).collect()
    # Without arrival times, a second version of an event could only be told by its place.
    again = HISTORY.with_columns(pl.col("likes") + 1, pl.col("written") + HOUR)
    ready(pl.concat([HISTORY, again])).collect()
    with pytest.raises(AmbiguousHistory, match="3 versions"):
        ready(pl.concat([HISTORY, again]), arrived_at=None, publish_delay=HOUR).collect()


def test_policy_an_event_beyond_the_tolerated_skew_after_its_arrival_is_refused() -> None:
    ahead = HISTORY.with_columns(pl.col("happened") + timedelta(seconds=5))
    found = ready(ahead, max_skew=timedelta(seconds=5)).collect()
    assert found["visible_from"].to_list() == [
        NOON - 3 * HOUR + timedelta(seconds=5), NOON - HOUR + timedelta(seconds=5), NOON - HOUR,
    ]  # fmt: skip
    with pytest.raises(AmbiguousHistory, match=r"2 rows happened more than 0:00:04\.9+ after"):
        ready(ahead, max_skew=timedelta(seconds=5) - US).collect()


def test_policy_a_row_column_named_like_a_feature_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rows already have columns \['likes'\].*prefix"):
        join(ROWS.rename({"note": "likes"}))


def test_policy_two_views_with_one_feature_name_need_a_prefix() -> None:
    with pytest.raises(UsageError, match=r"\['likes', 'tags'\]"):
        join(join())
    assert join(join(), prefix="again_").collect().width == 7


def test_policy_a_row_without_instant_is_refused(on_engine: dict[str, Any]) -> None:
    rows = ROWS.with_columns(pl.when(pl.col("user") != 1).then("at").alias("at"))
    with pytest.raises(NoInstant, match=r"E409.*1 rows have null 'at'"):
        join(rows, **on_engine).collect()


def test_J08_a_missing_column_or_a_changed_type_fails_before_the_join() -> None:
    unread = ROWS.map_batches(lambda _: pytest.fail("the rows were read"), schema=ROWS.collect_schema())
    with pytest.raises(SchemaDrift, match="missing column 'likes'"):
        join(unread, ready().drop("likes"))
    with pytest.raises(SchemaDrift, match="'likes' is String, declared Int64"):
        join(unread, ready().cast({"likes": pl.String}), fields={"likes": pl.Int64()})
    with pytest.raises(SchemaDrift, match="missing column 'user'"):
        join(unread, ready().drop("user"))
    with pytest.raises(SchemaDrift, match="view: missing column 'visible_from'"):
        join(unread, HISTORY)
    with pytest.raises(SchemaDrift, match="rows: missing column 'shown_at'"):
        join(unread, at="shown_at")
    with pytest.raises(SchemaDrift, match="'likes' is Int64, declared Float64"):
        ready(fields={"likes": pl.Float64()})
    assert join(fields={"likes": pl.Int64()}).collect()["likes"].to_list() == [20, 11, None]


@pytest.mark.parametrize("kind", [pl.String, pl.Float64, pl.Boolean])
def test_keys_that_cannot_be_compared_are_refused(kind: pl.DataType) -> None:
    with pytest.raises(SchemaDrift, match=r"key 'user'.*in the rows, Int64 in the view"):
        join(ROWS.cast({"user": kind}))


def test_a_float_is_no_key_even_on_both_sides() -> None:
    with pytest.raises(SchemaDrift, match="Float64 in the rows, Float64 in the view"):
        join(ROWS.cast({"user": pl.Float64}), ready().cast({"user": pl.Float64}))


@pytest.mark.parametrize("instant", [date(2026, 3, 2), "2026-03-02 12:00", 1_772_452_800])
def test_a_day_a_text_or_a_number_is_no_instant(instant: Any) -> None:
    with pytest.raises(SchemaDrift, match="where an instant is needed"):
        join(ROWS.with_columns(at=pl.lit(instant)))
    with pytest.raises(SchemaDrift, match="where an instant is needed"):
        ready(HISTORY.with_columns(happened=pl.lit(instant)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arrived_at": None}, "either an arrival column or a publish delay"),
        ({"publish_delay": HOUR}, "either an arrival column or a publish delay"),
        ({"arrived_at": None, "publish_delay": -HOUR}, "publish delay -1 day"),
        ({"fields": ["likes", "user"]}, r"\['user'\].*key and field"),
        ({"keys": []}, "no key"),
    ],
)
def test_a_history_that_cannot_be_understood_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ready(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_age": -HOUR}, "max age -1 day"),
        ({"keys": []}, "no key"),
        ({"fields": []}, "no field"),
        ({"engine": "duckdb"}, "with limits"),
        ({"engine": "spark"}, "choose polars, or duckdb"),
    ],
)
def test_a_join_that_cannot_be_understood_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        join(**changed)


def test_versions_that_are_not_as_of_ready_are_refused() -> None:
    tied = pl.concat([ready(), ready().with_columns(pl.col("likes") + 1)])
    falling = ready().with_columns(event_time=pl.lit(NOON) - (pl.col("event_time") - pl.lit(NOON)))
    for view in (tied, falling):
        with pytest.raises(BrokenPromise, match="two versions from one instant, or its event times fall"):
            join(view=view)


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in FunnelcastError.__subclasses__()]
    assert len(codes) == len(set(codes))
