"""Days in any order, and a file that comes late, end in the tables of a daily run; J02 and J04."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_house import STAGES, backfill, copy_house, deliver, live_tables, open_house, pending, run
from shop_logs import SCHEMAS, sku, user_id, write_logs

from features.bookkeeping import QUARANTINE
from features.calendar import day_start
from features.errors import Busy, CorruptInput
from features.scenarios.shop import SCENARIO
from features.schemas import events, samples, view
from flows import report
from flows.ahead import ahead
from flows.house import House
from flows.registry import entries
from flows.request import Request
from flows.stages import read
from flows.stages import view as views
from flows.stages.settle import live

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(4)]
ONE, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
FIRST, SECOND, THIRD, LAST = DAYS
VALID = [*DAYS, LAST + ONE]
SAMPLES = samples(SCENARIO)
#: Nobody else has this id.
LATE_USER, SHOWN = user_id(2_000_000), 3
Files = dict[str, list[tuple[str, int, str]]]


@dataclass(frozen=True)
class Daily:
    """Four days, each run when nothing of the next had been delivered.

    Attributes:
        house: the warehouse after the last.
        logs: where all deliveries lie.
        tables: the live files after each day.
        refused: the rows of the quarantine after each day.
    """

    house: House
    logs: Path
    tables: dict[date, Files] = field(default_factory=dict)
    refused: dict[date, pl.DataFrame] = field(default_factory=dict)


def refused(house: House) -> pl.DataFrame:
    return house.store.scan(QUARANTINE).sort("dt", "origin", "reason", "row_text").collect()


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Daily:
    root = tmp_path_factory.mktemp("daily")
    write_logs(root / "all", DAYS)
    house = open_house(root / "days")
    walk = Daily(house, root / "all")
    for day in DAYS:
        deliver(walk.logs, house.logs, [day])
        run(house, day)
        walk.tables[day], walk.refused[day] = live_tables(house), refused(house)
    return walk


def test_j02_days_in_another_order_and_in_one_go_end_as_those_that_were_run_daily(
    daily: Daily, tmp_path: Path
) -> None:
    """Everything is delivered; each stage runs all days, the newest first; then what that left unfinished."""
    days = DAYS[:3]
    house = open_house(tmp_path)
    deliver(daily.logs, house.logs, days)
    for stage in STAGES:
        for day in reversed(days):
            stage.run(house, day, ())
    expected = daily.tables[THIRD]
    assert live_tables(house) != expected
    assert backfill(house, days) == days[1:]
    assert [pending(house, day) for day in days] == [[]] * 3
    found = live_tables(house)
    for table, files in expected.items():
        assert found[table] == files, table
    assert refused(house).equals(daily.refused[THIRD])


def as_daily(daily: Daily, house: House) -> None:
    """The tables of three days run daily, in names, rows and bytes, and nothing left to do."""
    assert [pending(house, day) for day in DAYS[:3]] == [[]] * 3
    found = live_tables(house)
    for table, files in daily.tables[THIRD].items():
        assert found[table] == files, table
    assert refused(house).equals(daily.refused[THIRD])


def test_days_read_and_viewed_at_once_end_as_those_that_were_run_daily(daily: Daily, tmp_path: Path) -> None:
    """First with a file whose pages cannot be decoded: its day, and all after it, are left to their turn."""
    days, house = DAYS[:3], open_house(tmp_path)
    deliver(daily.logs, house.logs, days)
    file = house.logs / "click" / f"dt={THIRD}" / "part-0.parquet"
    good, broken = file.read_bytes(), bytearray(file.read_bytes())
    broken[30:60] = bytes(30)
    file.write_bytes(broken)
    assert ahead(house, days, 3) == (FIRST, SECOND)
    for declared in SCENARIO.views:  # no snapshot counts less than what had arrived
        assert house.store.days(view(declared, SCENARIO)) == days
    with pytest.raises(CorruptInput, match=rf"click/dt={THIRD}/part-0\.parquet"):
        read.run(house, THIRD, ())
    file.write_bytes(good)
    with house.store.lease("run"), pytest.raises(Busy):
        ahead(house, days, 2)
    assert ahead(house, days, 3) == tuple(days)
    assert not any(stage.pending(house, day, ()) for stage in (read, views) for day in days)
    assert house.store.days(SAMPLES) == []
    backfill(house, days)
    as_daily(daily, house)


def test_a_file_that_is_not_as_agreed_stops_days_at_once_before_they_are_read(
    daily: Daily, tmp_path: Path
) -> None:
    house = open_house(tmp_path)
    deliver(daily.logs, house.logs, [FIRST, SECOND])
    (house.logs / "item" / f"dt={FIRST}" / "part-0.parquet").write_bytes(b"no Parquet")
    assert ahead(house, [FIRST, SECOND], 2) == ()
    assert house.store.days(events(SCENARIO.impressions)) == []


def walk(root: Path) -> None:
    """What the process does that is killed."""
    house = open_house(root)
    ahead(house, DAYS[:3], 2)
    backfill(house, DAYS[:3])


@pytest.mark.slow
def test_days_at_once_that_are_killed_at_any_moment_go_on_and_end_the_same(
    daily: Daily, tmp_path: Path
) -> None:
    house, alive = open_house(tmp_path), 0.5
    deliver(daily.logs, house.logs, DAYS[:3])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deltalake", "duckdb", "numpy", "polars", "pyarrow.parquet"])
    while True:
        process = context.Process(target=walk, args=(tmp_path,))
        process.start()
        process.join(alive)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        alive *= 1.5
    assert process.exitcode == 0
    as_daily(daily, house)


def late_file(house: House) -> None:
    """Three more exposures of the first day, at noon, delivered when the last day has been run."""
    noon = (day_start(FIRST, SCENARIO.zone) - datetime(1970, 1, 1)) // MICROSECOND + 12 * 3_600_000_000
    rows = [(f"late-{n}", LATE_USER, sku(n), noon + n, "home", 1) for n in range(SHOWN)]
    file = house.logs / "exposure" / f"dt={FIRST}" / "part-9.parquet"
    pl.DataFrame(rows, schema=SCHEMAS["exposure"], orient="row").write_parquet(file)


def stale(house: House, name: str) -> list[date]:
    """Days at whose start a view is not what its inputs ask for."""
    declared = next(one for one in SCENARIO.views if one.name == name)
    plans = [views.plan_view(house, declared, valid) for valid in VALID]
    return [plan.day for plan in plans if live(house.store, plan) is None]


def activity(house: House) -> dict[date, pl.DataFrame]:
    declared = next(one for one in SCENARIO.views if one.name == "user_activity")
    table = house.store.scan(view(declared, SCENARIO)).collect()
    return {valid: table.filter(pl.col("dt") == valid) for valid in VALID}


def listed(house: House, capsys: pytest.CaptureFixture[str]) -> dict[date, str]:
    """The first stage that ``funnelcast status`` has to do on each day."""
    report.status(Request(house, ()), as_json=True)
    told = json.loads(capsys.readouterr().out)
    return {date.fromisoformat(day["day"]): day["pending"][0] for day in told["days"]}


def test_j04_a_file_that_comes_late_makes_the_days_stale_whose_windows_hold_it(
    daily: Daily, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = copy_house(daily.house, tmp_path / "copy")
    before, known = activity(house), house.store.scan(SAMPLES).collect()
    assert set(listed(house, capsys).values()) == {"validate"}  # all that was not run here
    late_file(house)
    assert listed(house, capsys) == {day: "read" if day == FIRST else "validate" for day in DAYS}

    run(house, FIRST)  # and so the snapshot at its end
    assert stale(house, "user_activity") == [THIRD, LAST]  # three days before the start of each
    assert stale(house, "item_popularity") == [THIRD, LAST]
    assert stale(house, "item_profile") == []
    (told,) = entries(house, "user_activity")
    assert dict(told.stale) == dict.fromkeys([THIRD, LAST], (f"rollups/user {FIRST}",))
    # The second day is read again, since it drops copies of what the first delivered.
    assert listed(house, capsys) == dict(zip(DAYS, ("validate", "read", "view", "view"), strict=True))

    assert backfill(house, DAYS) == DAYS[1:]
    assert [pending(house, day) for day in DAYS] == [[]] * 4
    assert [stale(house, one.name) for one in SCENARIO.views] == [[]] * len(SCENARIO.views)
    others = pl.col("user_id") != LATE_USER
    for valid, rows in activity(house).items():
        counted = dict(rows.select("user_id", "user_impression_count_3d").rows())
        assert counted.get(LATE_USER, 0) == (SHOWN if FIRST < valid <= LAST else 0)
        assert rows.filter(others).equals(before[valid])
    found = house.store.scan(SAMPLES).collect()
    assert found.filter(~others)["impression_id"].to_list() == [f"late-{n}" for n in range(SHOWN)]
    labels = ["impression_id", *(name for o in SCENARIO.funnel for name in (o.label, o.final, o.known))]
    assert found.filter(others).select(labels).equals(known.select(labels))
