"""Many writers, killed writers and readers in between: real processes, real kills."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from datetime import date, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from features.errors import Busy
from features.fingerprint import fingerprint
from features.store import Store
from features.tables import Table

DAY = date(2026, 1, 5)
SHARDS, ROWS = 3, 40
TABLE = Table("samples", pa.schema([("number", pa.int64()), ("p", pa.float32())]))
WIDE = Table("samples", pa.schema([("number", pa.int64()), ("p", pa.float32()), ("extra", pa.string())]))


def publish(root: Path, day: date, number: int, table: Table = TABLE) -> None:
    """Replace a day by `SHARDS` files of `ROWS` rows that all hold ``number``."""
    frame = pl.DataFrame({"number": [number] * ROWS, "p": [0.5] * ROWS}, schema_overrides={"p": pl.Float32})
    if "extra" in table.schema.names:
        frame = frame.with_columns(extra=pl.lit("x"))
    store = Store(root)
    with store.stage(table, day, fingerprint(number), record={"number": number}) as shards:
        for shard in range(SHARDS):
            shards.write(frame, shard)
    store.commit(shards)


def publish_together(barrier: Barrier, root: Path, day: date, numbers: range, table: Table = TABLE) -> None:
    for number in numbers:
        barrier.wait(20)
        publish(root, day, number, table)


def publish_for_ever(pipe: Connection, root: Path, first: int) -> None:
    number = first
    while True:
        publish(root, DAY, number)
        pipe.send(number)
        number += 1


def publish_if_new(barrier: Barrier, answers: Connection, root: Path, number: int) -> None:
    store = Store(root)
    with store.stage(TABLE, DAY, fingerprint(number), record={"number": number}) as shards:
        shards.write(pl.DataFrame({"number": [number], "p": [0.5]}, schema_overrides={"p": pl.Float32}))
    barrier.wait(20)
    try:
        store.commit(shards, expect=None)
        answers.send("published")
    except Busy:
        answers.send("busy")


def append_together(barrier: Barrier, root: Path, own: int) -> None:
    for round_ in range(5):
        barrier.wait(20)
        for number in (own, 1000 + round_):  # one row of its own, one that both append
            frame = pl.DataFrame({"number": [number], "p": [0.5]}, schema_overrides={"p": pl.Float32})
            Store(root).append(TABLE, DAY + timedelta(days=round_), frame)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Children start from a server that has the imports but no threads: quick, and safe to kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["features.store"])
    return context


@pytest.fixture
def started() -> Iterator[list[ForkServerProcess]]:
    children: list[ForkServerProcess] = []
    yield children
    for child in children:
        child.kill()
        child.join(20)


def finish(children: list[ForkServerProcess]) -> None:
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * len(children)


def live_number(store: Store, day: date) -> int:
    """The number that a day holds, after checking that it is one whole generation."""
    counts = store.scan(TABLE, [day]).group_by("number").len().collect()
    assert counts["len"].to_list() == [SHARDS * ROWS]
    generation = store.generation(TABLE, day)
    assert generation is not None
    generation.verify()
    assert generation.record == {"number": counts["number"][0]}
    return int(counts["number"][0])


@pytest.mark.parametrize("writers", [2, 4])
def test_writers_of_one_new_day_leave_one_generation(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess], writers: int
) -> None:
    """The table is new, too: every round makes a table, so that its creation is raced as well."""
    rounds = 6
    barrier = processes.Barrier(writers)
    for own in range(writers):
        args = (barrier, tmp_path, DAY, range(own, 100 * rounds, 100))
        started.append(processes.Process(target=publish_together, args=args))
        started[-1].start()
    finish(started)
    store = Store(tmp_path)
    assert live_number(store, DAY) // 100 == rounds - 1
    assert store.snapshot(TABLE).version == rounds * writers  # creation, then every commit once


def test_racers_for_a_new_table_make_it_once(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    barrier = processes.Barrier(2)
    for round_ in range(4):
        children = [
            processes.Process(
                target=publish_together, args=(barrier, tmp_path / str(round_), DAY, range(own, own + 1))
            )
            for own in range(2)
        ]
        started += children
        for child in children:
            child.start()
        finish(children)
        assert live_number(Store(tmp_path / str(round_)), DAY) in (0, 1)


def test_writers_of_different_days_all_land(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    barrier = processes.Barrier(3)
    for own in range(3):
        args = (barrier, tmp_path, DAY + timedelta(days=own), range(own * 10, own * 10 + 8))
        started.append(processes.Process(target=publish_together, args=args))
        started[-1].start()
    finish(started)
    store = Store(tmp_path)
    assert [live_number(store, day) for day in store.days(TABLE)] == [7, 17, 27]
    assert store.snapshot(TABLE).version == 24


def test_a_column_may_be_added_while_others_write(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    publish(tmp_path, DAY, 0)
    barrier = processes.Barrier(3)
    for own, table in enumerate((TABLE, WIDE, WIDE)):
        args = (barrier, tmp_path, DAY + timedelta(days=own), range(own * 10, own * 10 + 3), table)
        started.append(processes.Process(target=publish_together, args=args))
        started[-1].start()
    finish(started)
    store = Store(tmp_path)
    assert [live_number(store, day) for day in store.days(TABLE)] == [2, 12, 22]
    assert store.scan(WIDE).select(pl.col("extra").count()).collect().item() == 2 * SHARDS * ROWS


def test_of_two_that_expect_a_new_day_one_is_refused(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    for round_ in range(4):
        barrier = processes.Barrier(2)
        mine, theirs = processes.Pipe(duplex=False)
        children = [
            processes.Process(target=publish_if_new, args=(barrier, theirs, tmp_path / str(round_), own))
            for own in range(2)
        ]
        started += children
        for child in children:
            child.start()
        finish(children)
        assert sorted(mine.recv() for _ in children) == ["busy", "published"]
        assert Store(tmp_path / str(round_)).scan(TABLE).collect().height == 1


def test_appends_from_two_processes_all_land_once(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    barrier = processes.Barrier(2)
    for own in range(2):
        started.append(processes.Process(target=append_together, args=(barrier, tmp_path, own)))
        started[-1].start()
    finish(started)
    rows = Store(tmp_path).scan(TABLE).select("dt", "number").sort("dt", "number").collect().rows()
    days = [DAY + timedelta(days=round_) for round_ in range(5)]
    assert rows == [(day, n) for round_, day in enumerate(days) for n in (0, 1, 1000 + round_)]


def test_a_reader_sees_the_old_day_or_the_new_one(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    mine, theirs = processes.Pipe(duplex=False)
    started.append(processes.Process(target=publish_for_ever, args=(theirs, tmp_path, 0)))
    started[-1].start()
    assert mine.recv() == 0
    publish(tmp_path, DAY + timedelta(days=1), 77)
    store, seen = Store(tmp_path), [0]
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline or len(set(seen)) < 3:
        counts = store.scan(TABLE, [DAY]).group_by("number").len().collect()
        assert counts["len"].to_list() == [SHARDS * ROWS]
        seen.append(counts["number"][0])
        files = [str(p) for p in store.paths(TABLE, store.snapshot(TABLE).files) if "dt=2026-01-05" in str(p)]
        query = "SELECT number, count(*) FROM read_parquet($files) GROUP BY ALL"
        ((number, count),) = duckdb.connect().execute(query, {"files": files}).fetchall()
        assert count == SHARDS * ROWS
        seen.append(number)
        assert time.monotonic() < deadline + 20
    assert seen == sorted(seen)
    assert live_number(store, DAY + timedelta(days=1)) == 77


def test_a_killed_writer_leaves_a_whole_day_and_no_debris(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    chance = random.Random(20260105)
    other = DAY + timedelta(days=1)
    publish(tmp_path, other, 5)
    store = Store(tmp_path)
    first = 0
    for _ in range(20):
        mine, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=publish_for_ever, args=(theirs, tmp_path, first))
        started.append(child)
        child.start()
        theirs.close()
        acknowledged = mine.recv()
        time.sleep(chance.uniform(0, 0.12))
        child.kill()
        child.join(20)
        try:
            while True:
                acknowledged = mine.recv()
        except (EOFError, OSError):  # the last message may be cut off by the kill
            mine.close()
        found = live_number(store, DAY)
        assert found in (acknowledged, acknowledged + 1)  # landed, perhaps without a word
        assert live_number(store, other) == 5
        first = found + 1
        publish(tmp_path, DAY, first)  # no repair is needed
        assert live_number(store, DAY) == first
        assert list((tmp_path / "_staging").iterdir()) == []
        first += 1
