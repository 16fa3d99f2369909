"""Two publishers of the catalogue at once, one of them killed at times, and a reader who never notices."""

from __future__ import annotations

import multiprocessing
import random
import time
from datetime import date
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from features.fingerprint import fingerprint
from features.store import Store
from features.tables import Table
from flows.catalog import CatalogView, rebuild

DAYS = (date(2026, 1, 5), date(2026, 1, 6))
ROUNDS, ROWS, KILLS = 8, 5, 3
TABLE = Table("scores", pa.schema([("number", pa.int64())]))
VIEWS = (
    CatalogView("scores", TABLE),
    CatalogView("latest", TABLE, "SELECT * FROM this WHERE dt = (SELECT max(dt) FROM this)"),
)
SEEN = "SELECT dt, min(number), max(number), count(*) FROM scores GROUP BY dt ORDER BY dt"
SPAWN: ForkServerContext = multiprocessing.get_context("forkserver")


def put(store: Store, day: date, number: int) -> None:
    with store.stage(TABLE, day, fingerprint([day, number]), record={}) as shards:
        shards.write(pl.DataFrame({"number": [number] * ROWS}))
    store.commit(shards)


def publish(root: Path, day: date, numbers: range) -> None:
    """Commit a day again and again, and show each."""
    store = Store(root)
    for number in numbers:
        put(store, day, number)
        rebuild(store, VIEWS)


def read(root: Path, answers: Connection, seconds: float) -> None:
    """Open the catalogue as stock DuckDB does, ask, close it; every answer is of whole days, none older."""
    asked, newest, faults = 0, dict.fromkeys(DAYS, 0), []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not answers.poll():
        try:
            with duckdb.connect(root / "catalog.duckdb", read_only=True) as connection:
                told = connection.execute(SEEN).fetchall()
                connection.execute("FROM latest").fetchall()
        except duckdb.Error as error:
            faults.append(str(error))
            continue
        asked += 1
        time.sleep(0.02)
        for day, low, high, rows in told:
            if low != high or rows != ROWS or low < newest[day]:
                faults.append(f"{day}: {low} to {high} in {rows} rows after {newest[day]}")
            newest[day] = max(newest[day], high)
        if len(told) != len(DAYS):
            faults.append(f"{len(told)} days")
    answers.send((asked, faults))


def whole(root: Path, numbers: dict[date, int]) -> None:
    """The catalogue shows exactly what is live, is signed with it, and no draft is left beside it."""
    store = Store(root)
    with duckdb.connect(root / "catalog.duckdb", read_only=True) as connection:
        told = connection.execute(SEEN).fetchall()
        state = dict(connection.execute("FROM built_from").fetchall())
    assert told == [(day, numbers[day], numbers[day], ROWS) for day in DAYS]
    assert state["table scores"] == store.snapshot(TABLE).identity
    assert [file.name for file in root.iterdir() if file.is_file()] == ["catalog.duckdb"]
    assert not list((root / "_staging").rglob("catalog*"))


def test_two_publishers_at_once_end_in_one_whole_catalogue_and_no_reader_fails(tmp_path: Path) -> None:
    SPAWN.set_forkserver_preload(
        ["flows.catalog"]
    )  # else every process imports for seconds and is killed before
    store, dice = Store(tmp_path), random.Random(20260105)
    for day in DAYS:
        put(store, day, 0)
    rebuild(store, VIEWS)
    ours, theirs = SPAWN.Pipe()
    reader = SPAWN.Process(target=read, args=(tmp_path, theirs, 120.0))
    reader.start()
    publishers = [SPAWN.Process(target=publish, args=(tmp_path, day, range(1, ROUNDS))) for day in DAYS]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(60)
        assert publisher.exitcode == 0
    whole(tmp_path, dict.fromkeys(DAYS, ROUNDS - 1))
    for nth in range(1, KILLS + 1):  # one dies anywhere, the other goes on
        dying = SPAWN.Process(target=publish, args=(tmp_path, DAYS[0], range(100 * nth, 10_000)))
        living = SPAWN.Process(target=publish, args=(tmp_path, DAYS[1], range(100 * nth, 100 * nth + 3)))
        dying.start(), living.start()
        time.sleep(dice.uniform(0.05, 0.4))
        dying.kill()
        dying.join(20)
        living.join(60)
        assert living.exitcode == 0
    for day in DAYS:
        put(store, day, 10_000)
    rebuild(store, VIEWS)
    ours.send("enough")
    asked, faults = ours.recv()
    reader.join(20)
    assert faults == []
    assert asked > 10
    whole(tmp_path, dict.fromkeys(DAYS, 10_000))
