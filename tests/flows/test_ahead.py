"""Days that are read and viewed at once end in the bytes of days that are run one after the other."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_house import backfill, live_tables, open_house, pending, run
from shop_logs import write_logs

from features.bookkeeping import QUARANTINE
from features.errors import Busy, CorruptInput
from features.scenarios.shop import SCENARIO
from features.schemas import events, samples, view
from flows.ahead import ahead
from flows.house import House
from flows.stages import read
from flows.stages import view as views

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(3)]
LAST = DAYS[-1]
FORK = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Series:
    """Three days run in order, and where their logs lie."""

    root: Path
    house: House


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    root = tmp_path_factory.mktemp("series")
    write_logs(root / "logs", DAYS)
    house = open_house(root)
    run(house, *DAYS)
    return Series(root, house)


def fresh(series: Series, root: Path) -> House:
    """An empty warehouse beside the same logs."""
    shutil.copytree(series.root / "logs", root / "logs")
    return open_house(root)


def quarantined(house: House) -> pl.DataFrame:
    return house.store.scan(QUARANTINE).sort("dt", "origin", "reason", "row_text").collect()


def as_in_series(series: Series, house: House) -> None:
    """The same live files of the same names and bytes, and nothing left to do."""
    assert [pending(house, day) for day in DAYS] == [[]] * len(DAYS)
    found = live_tables(house)
    for table, files in live_tables(series.house).items():
        assert found[table] == files, table
    assert quarantined(house).equals(quarantined(series.house))


def test_days_at_once_are_the_days_in_order_byte_for_byte(series: Series, tmp_path: Path) -> None:
    """First with a file whose pages cannot be decoded: its day, and all after it, are left to their turn."""
    house = fresh(series, tmp_path)
    file = house.logs / "click" / f"dt={LAST}" / "part-0.parquet"
    good, broken = file.read_bytes(), bytearray(file.read_bytes())
    broken[30:60] = bytes(30)
    file.write_bytes(broken)
    assert ahead(house, DAYS, 3) == tuple(DAYS[:-1])
    for declared in SCENARIO.views:  # no snapshot counts less than what had arrived
        assert house.store.days(view(declared, SCENARIO)) == DAYS
    with pytest.raises(CorruptInput, match=rf"click/dt={LAST}/part-0\.parquet"):
        read.run(house, LAST, ())
    file.write_bytes(good)
    assert ahead(house, DAYS, 3) == tuple(DAYS)
    assert not any(stage.pending(house, day, ()) for stage in (read, views) for day in DAYS)
    assert house.store.days(samples(SCENARIO)) == []
    backfill(house, DAYS)
    as_in_series(series, house)


def test_a_file_that_is_not_as_agreed_stops_before_it_is_read(series: Series, tmp_path: Path) -> None:
    house = fresh(series, tmp_path)
    (house.logs / "item" / f"dt={DAYS[0]}" / "part-0.parquet").write_bytes(b"no Parquet")
    assert ahead(house, DAYS, 2) == ()
    assert house.store.days(events(SCENARIO.impressions)) == []


def test_nobody_else_runs_meanwhile(series: Series, tmp_path: Path) -> None:
    house = fresh(series, tmp_path)
    with house.store.lease("run"), pytest.raises(Busy):
        ahead(house, DAYS, 2)


def walk(root: Path) -> None:
    house = open_house(root)
    ahead(house, DAYS, 2)
    backfill(house, DAYS)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(series: Series, tmp_path: Path) -> None:
    house, alive = fresh(series, tmp_path), 0.3
    while True:
        process = FORK.Process(target=walk, args=(tmp_path,))
        process.start()
        process.join(alive)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        alive *= 1.5
    assert process.exitcode == 0
    as_in_series(series, house)
