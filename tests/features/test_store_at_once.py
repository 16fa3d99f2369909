"""Two at once: runs of one day, a run and a backfill, many writers under many readers. Real processes."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from datetime import date, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from features.errors import Busy
from features.fingerprint import fingerprint
from features.store import Store
from features.tables import Table

DAYS = tuple(date(2026, 1, 5) + timedelta(days=n) for n in range(3))
SHARDS, ROWS = 2, 30
TABLE = Table("samples", pa.schema([("number", pa.int64())]))


def publish(root: Path, day: date, number: int) -> None:
    store = Store(root)
    with store.stage(TABLE, day, fingerprint(number), record={"number": number}) as shards:
        for shard in range(SHARDS):
            shards.write(pl.DataFrame({"number": [number] * ROWS}), shard)
    store.commit(shards)


def write_many(barrier: Barrier, root: Path, own: int, commits: int) -> None:
    barrier.wait(60)
    for n in range(commits):
        publish(root, DAYS[(own + n) % len(DAYS)], own * 1000 + n)


def read_many(barrier: Barrier, root: Path, stop: Event, least: int, answers: Connection) -> None:
    """Read days until the writers are done, and at least so often; how many reads, and the bad ones."""
    store, reads, bad = Store(root), 0, []
    barrier.wait(60)
    while reads < least or not stop.is_set():
        day = DAYS[reads % len(DAYS)]
        try:
            counts = store.scan(TABLE, [day]).group_by("number").len().collect()["len"].to_list()
        except Exception as error:
            counts = [repr(error)]
        if counts not in ([], [SHARDS * ROWS]):
            bad.append(f"{day}: {counts}")
        reads += 1
    answers.send((reads, bad))


def run_a_day(barrier: Barrier, root: Path, number: int, answers: Connection, wait: float) -> None:
    """What a run does: hold the warehouse, look whether the day is done, else do it."""
    store = Store(root)
    barrier.wait(60)
    try:
        with store.lease("run", wait=wait):
            barrier.wait(60) if wait == 0 else None  # the other was refused before this one ends
            found = store.generation(TABLE, DAYS[0])
            if found is None:
                publish(root, DAYS[0], number)
            answers.send((os.getpid(), "done before" if found else "published"))
    except Busy as error:
        answers.send((os.getpid(), str(error)))
        barrier.wait(60)


def hold_for_ever(root: Path, answers: Connection) -> None:
    with Store(root).lease("run"):
        answers.send(os.getpid())
        answers.poll(600)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
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


@pytest.mark.parametrize(
    ("commits", "least"), [(4, 60), pytest.param(25, 1_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_four_writers_and_two_readers_at_once_lose_nothing(
    tmp_path: Path,
    processes: ForkServerContext,
    started: list[ForkServerProcess],
    commits: int,
    least: int,
) -> None:
    writers = 4
    barrier, stop = processes.Barrier(writers + 2), processes.Event()
    mine, theirs = processes.Pipe()
    writing = [(barrier, tmp_path, own, commits) for own in range(writers)]
    started.extend(processes.Process(target=write_many, args=args) for args in writing)
    reading = (barrier, tmp_path, stop, least, theirs)
    started.extend(processes.Process(target=read_many, args=reading) for _ in range(2))
    for child in started:
        child.start()
    for child in started[:writers]:
        child.join(200)
    stop.set()
    told = [mine.recv() for _ in range(2)]
    for child in started:
        child.join(60)
    assert [child.exitcode for child in started] == [0] * len(started)
    assert [bad for _, bad in told] == [[], []]
    assert sum(reads for reads, _ in told) >= 2 * least
    store = Store(tmp_path)
    assert store.snapshot(TABLE).version == writers * commits  # the table's making is version 0
    for day in DAYS:
        found = store.generation(TABLE, day)
        assert found is not None
        found.verify()
        assert found.rows == SHARDS * ROWS


@pytest.mark.parametrize("wait", [0.0, 30.0], ids=["refused", "waits"])
def test_F13_F14_of_two_runs_at_once_one_publishes_and_the_other_waits_or_is_told_who(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess], wait: float
) -> None:
    """The same day twice; and a scheduled run beside a backfill, which hold the same lease."""
    barrier = processes.Barrier(2)
    mine, theirs = processes.Pipe()
    for number in range(2):
        started.append(processes.Process(target=run_a_day, args=(barrier, tmp_path, number, theirs, wait)))
        started[-1].start()
    told = dict(mine.recv() for _ in range(2))
    for child in started:
        child.join(60)
    (winner,) = (pid for pid, said in told.items() if said == "published")
    (other,) = (said for pid, said in told.items() if pid != winner)
    if wait:
        assert other == "done before"
    else:
        said = rf"^E501 Busy: run: held by process {winner} on \S+ since 2\S+ UTC\. Next: wait"
        assert re.search(said, other)
    assert Store(tmp_path).snapshot(TABLE).version == 1


def test_F12_a_worker_killed_for_memory_holds_nothing(
    tmp_path: Path, processes: ForkServerContext, started: list[ForkServerProcess]
) -> None:
    mine, theirs = processes.Pipe()
    started.append(processes.Process(target=hold_for_ever, args=(tmp_path, theirs)))
    started[-1].start()
    holder = mine.recv()
    with pytest.raises(Busy, match=f"process {holder} on"), Store(tmp_path).lease("run"):
        pass
    started[-1].kill()  # the kernel's SIGKILL is what a memory limit sends
    started[-1].join(20)
    with Store(tmp_path).lease("run", wait=1.0):
        publish(tmp_path, DAYS[0], 1)
    assert Store(tmp_path).scan(TABLE).collect().height == SHARDS * ROWS
