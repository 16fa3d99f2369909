"""A run that is killed at any moment and started again ends as if nobody had disturbed it.

Runs are processes of their own, without Prefect, and are killed for real: ``SIGKILL`` as soon as a file of
a certain kind appears in the warehouse, or after any time at all.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from shop_logs import write_logs

from features.bookkeeping import ID_MAPS, METRICS, MODELS, QUARANTINE, RUNS
from features.fingerprint import file_sha256
from features.promotion import GATE
from features.scenarios.shop import SCENARIO
from features.schemas import COMPLETENESS, events, rollup, samples, scores, view
from features.tables import Table
from features.validation.foretold import FORETOLD
from flows.catalog_views import catalog_views
from flows.day import run_day
from flows.house import House
from flows.request import Request
from flows.settings import Settings

DAYS = tuple(date(2026, 3, 27) + timedelta(days=n) for n in range(3))
TABLES = (
    *(events(source) for source in SCENARIO.sources),
    *(rollup(declared, SCENARIO) for declared in SCENARIO.rollups),
    *(view(declared, SCENARIO) for declared in SCENARIO.views),
    *(QUARANTINE, samples(SCENARIO), ID_MAPS, METRICS, MODELS, GATE, scores(SCENARIO)),
)
WALL_TIME = ("started_at", "seconds", "decided_at")
#: What just appeared when the run is killed, and how often, in the order in which two days come about.
MOMENTS = (
    ("_staging/*/*.parquet", 1),  # a file is being written
    ("quarantine/_delta_log/*.json", 2),  # refused rows are kept, their source is not read yet
    ("rollups/user/_delta_log/*.json", 1),  # a table is made and holds nothing
    ("samples/dt=*/*.parquet", 1),  # a file has its name and is not live
    ("checkpoints/*/.*", 1),  # a checkpoint is being written
    ("scores/dt=*/*/*.parquet", 1),  # staged, not published
    ("runs/_delta_log/*.json", 2),  # the first day is in the ledger and not in the catalogue
    ("samples/_delta_log/*.json", 1),  # the first day's samples were restated together with the second's
    ("metrics_daily/_delta_log/*.json", 1),  # evaluated, not trained
    ("checkpoints/*/*/manifest.json", 1),  # it is there, and no version refers to it
    ("scores/_delta_log/*.json", 1),  # published, not in the ledger
    ("_staging/catalog.duckdb*", 1),  # all done but the catalogue
)


def run_days(root: Path, warehouse: str, days: tuple[date, ...], lines: tuple[str, ...]) -> None:
    """What the process does that is killed."""
    for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
        del os.environ[name]
    request = Request(open_house(root, warehouse), lines)
    for day in request.unfinished(days):
        run_day(request.house, day, lines)
    request.show()


def open_house(root: Path, warehouse: str) -> House:
    settings = Settings(
        warehouse=root / warehouse,
        logs={"shop": root / "logs"},
        scenario="shop",
        threads=1,
        memory_limit="1GB",
    )
    return House.open(settings)


def start(root: Path, warehouse: str, days: tuple[date, ...], lines: tuple[str, ...]) -> BaseProcess:
    """A process with a run, with torch already imported but nothing of ours."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deltalake", "duckdb", "numpy", "polars", "pyarrow.parquet", "torch"])
    process = context.Process(target=run_days, args=(root, warehouse, days, lines))
    process.start()
    return process


def complete(root: Path, warehouse: str, days: tuple[date, ...], lines: tuple[str, ...]) -> None:
    process = start(root, warehouse, days, lines)
    process.join(240)
    assert process.exitcode == 0


def kill_when(process: BaseProcess, now: Callable[[], bool]) -> bool:
    """Kill the run when its moment has come; false if it ended before."""
    while process.is_alive():
        if now():
            process.kill()
            break
        time.sleep(0.001)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def appeared(folder: Path, pattern: str, times: int) -> Callable[[], bool]:
    """Whether that many new names match since now; names that begin with a point count as any other."""
    before = set(folder.glob(pattern))
    return lambda: len(set(folder.glob(pattern)) - before) >= times


@dataclass(frozen=True)
class Seen:
    """How many rows a reader finds, by what and day."""

    rows: dict[tuple[str, date], int]

    @classmethod
    def by(cls, house: House) -> Seen:
        """What a reader of the tables and a reader of the catalogue find, which may be behind."""
        found: Counter[tuple[str, date]] = Counter()
        for table in TABLES:
            counted = house.store.scan(table).group_by("dt").len().collect()
            found.update({(table.name, day): rows for day, rows in counted.iter_rows()})
        if house.catalog.exists():
            with duckdb.connect(house.catalog, read_only=True) as connection:
                for shown in catalog_views(SCENARIO):
                    counted = connection.sql(
                        f'SELECT dt, count(*) FROM "{shown.name}" GROUP BY dt'
                    ).fetchall()
                    found.update({(f"view {shown.name}", day): rows for day, rows in counted})
        return cls(dict(found))


@dataclass(frozen=True)
class Undisturbed:
    """Logs, and a warehouse that was filled from them without an incident.

    Attributes:
        root: folder of logs and warehouses.
        house: the warehouse.
        days: the days.
        lines: the model lines.
        whole: numbers of rows that a whole day may have, restated or not.
    """

    root: Path
    house: House
    days: tuple[date, ...]
    lines: tuple[str, ...]
    whole: dict[tuple[str, date], set[int]]

    @classmethod
    def make(cls, root: Path, days: tuple[date, ...], lines: tuple[str, ...]) -> Undisturbed:
        write_logs(root / "logs", days)
        house, whole = open_house(root, "undisturbed"), {}
        for day in days:
            complete(root, "undisturbed", (day,), lines)
            for key, rows in Seen.by(house).rows.items():
                whole.setdefault(key, set()).add(rows)
        return cls(root, house, days, lines, whole)

    def start(self) -> BaseProcess:
        return start(self.root, "killed", self.days, self.lines)

    def finish(self) -> None:
        complete(self.root, "killed", self.days, self.lines)

    def check_whole_days(self) -> None:
        """Whatever was killed, a reader sees a day as a run leaves it, or does not see it."""
        partly = {"quarantine"}  # by source, each at once
        for key, rows in Seen.by(open_house(self.root, "killed")).rows.items():
            several_lines = {"metrics_daily", "models", "gate"} if len(self.lines) > 1 else set()
            if key[0].removeprefix("view ") not in partly | several_lines:
                assert rows in self.whole[key], key


def facts(house: House, table: Table) -> list[tuple[str, int, str]]:
    """Name, rows and hash of every live file."""
    files = house.store.snapshot(table).files
    paths = house.store.paths(table, files)
    return [(str(f.path), f.rows, file_sha256(path)) for f, path in zip(files, paths, strict=True)]


def checkpoints(house: House) -> dict[str, str]:
    folder = house.store.root / "checkpoints"
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.rglob("*") if file.is_file()}


def shown(house: House) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of every view of the catalogue, without wall times."""
    with duckdb.connect(house.catalog, read_only=True) as connection:
        for declared in catalog_views(SCENARIO):
            rows = connection.sql(f'FROM "{declared.name}" ORDER BY ALL').pl()
            yield declared.name, rows.drop(WALL_TIME, strict=False)


def tree(house: House) -> dict[Path, str]:
    """Every file of the warehouse, but for the locks, which say who held them last."""
    files = (file for file in house.store.root.rglob("*") if file.is_file())
    return {file: file_sha256(file) for file in files if "_locks" not in file.parts}


def assert_equal_but_for_run_times(ours: House, theirs: House) -> None:
    for table in TABLES:
        assert facts(ours, table) == facts(theirs, table), table.name
        assert facts(ours, table) != []
    assert checkpoints(ours) == checkpoints(theirs) != {}
    ledgers = [house.store.scan(RUNS).drop(WALL_TIME, strict=False).collect() for house in (ours, theirs)]
    order = ["dt", "run_key", "stage", "table", "part"]
    assert_frame_equal(ledgers[0].sort(order), ledgers[1].sort(order))
    for (name, mine), (_, other) in zip(shown(ours), shown(theirs), strict=True):
        if name == "runs":
            mine, other = (rows.sort(order) for rows in (mine, other))
        assert mine.height > 0 or name in (COMPLETENESS.name, FORETOLD.name)  # too few days for final labels
        assert_frame_equal(mine, other)


@pytest.mark.parametrize(
    "moments",
    [MOMENTS[0::2], pytest.param(MOMENTS[1::2], marks=pytest.mark.slow)],
    ids=["some", "the others"],
)
def test_F01_F02_F03_F04_F06_F15_a_run_that_is_killed_at_every_stage_ends_as_an_undisturbed_one(
    tmp_path: Path, moments: tuple[tuple[str, int], ...]
) -> None:
    undisturbed = Undisturbed.make(tmp_path, DAYS[:2], ("esmm",))
    killed = open_house(tmp_path, "killed")
    survived = []
    for pattern, times in moments:
        now = appeared(killed.store.root, pattern, times)
        if not kill_when(undisturbed.start(), now):
            survived.append(pattern)
        undisturbed.check_whole_days()
    assert len(survived) <= 1, survived  # the last moments are short
    undisturbed.finish()
    assert_equal_but_for_run_times(killed, undisturbed.house)
    before = tree(killed)
    for day in undisturbed.days:  # even if asked to: a finished day changes no byte
        assert all(record.repeated for record in run_day(killed, day, undisturbed.lines))
    assert tree(killed) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_at_any_time_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """Each start lives a little longer than the one before, by chance, until one reaches the end."""
    undisturbed = Undisturbed.make(tmp_path, DAYS, ("esmm", "ple"))
    chance, kills = random.Random(20260327), 0
    for attempt in range(60):
        ends = time.monotonic() + chance.uniform(0.5, 4.0 + 0.4 * attempt)
        if not kill_when(undisturbed.start(), lambda ends=ends: time.monotonic() >= ends):  # type: ignore[misc]
            break
        kills += 1
        undisturbed.check_whole_days()
    undisturbed.finish()
    assert kills >= 8
    assert_equal_but_for_run_times(open_house(tmp_path, "killed"), undisturbed.house)
