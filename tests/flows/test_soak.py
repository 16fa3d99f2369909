"""Sixty simulated days back to back, killed at random, with late files and reruns; then what must hold.

Slow: `pytest -m slow tests/flows/test_soak.py -s` tells each day. ``SOAK_DAYS`` asks for another number.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.bookkeeping import MODELS, QUARANTINE, RUNS
from features.schemas import events, samples, scores
from features.simulation import Noise, Simulation, SimulationSettings
from flows.day import run_day
from flows.house import House
from flows.request import Request
from flows.settings import Settings
from flows.stages.promise import check_published
from flows.verify import verified

N = int(os.environ.get("SOAK_DAYS", "60"))
FUNNEL = SimulationSettings(
    impressions=240, users=50, items=20, ctr=0.4, cvr=0.4, seed=11, noise=Noise().times(4), horizon_days=3
)
DAYS = [FUNNEL.start + timedelta(days=n) for n in range(N)]
LINES = ("esmm",)
FORK = multiprocessing.get_context("forkserver")
KILLED, LATE, RERUN = 0.35, 0.12, 0.15
#: Days that a run looks for late files in; the latest of them comes three days late.
LOOKS_BACK = 7


def open_house(root: Path) -> House:
    told = Settings(
        warehouse=root / "warehouse", logs={"simulated": root / "logs"}, scenario="simulated", threads=1
    )
    return House.open(told)


def run_up_to(root: Path, last: date) -> None:
    """What the process does that may be killed: all that is unfinished or stale; how much memory it took."""
    request = Request(open_house(root), LINES)
    recent = [day for day in DAYS if last - timedelta(days=LOOKS_BACK) <= day <= last]
    for day in request.unfinished(recent):
        run_day(request.house, day, LINES)
    for day in request.stale(recent):
        if request.unfinished([day]):
            run_day(request.house, day, LINES)
    request.show()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (root / f"peak-{last}").write_text(str(peak), "utf-8")


@dataclass
class Told:
    """What happened on the way.

    Attributes:
        kills: processes that were killed.
        late: days of which a file came later.
        reruns: finished days that were asked for again.
        files: of the warehouse, at the end of each day.
        live: files that the newest versions of the tables refer to.
        peaks: memory of the process that finished each day, in KiB.
    """

    kills: int = 0
    late: int = 0
    reruns: int = 0
    files: list[int] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)


def files_below(root: Path) -> list[Path]:
    return [file for file in root.rglob("*") if file.is_file()]


def finish(root: Path, day: date, dice: random.Random, told: Told, usual: list[float]) -> None:
    """Run a day in a process, kill it now and then at any moment, and start it again until it ends well."""
    for attempt in range(50):
        began = time.monotonic()
        process = FORK.Process(target=run_up_to, args=(root, day))
        process.start()
        patience = max(usual[-3:], default=20.0)
        process.join(dice.uniform(0.0, patience) if dice.random() < KILLED and attempt < 9 else 1200)
        if process.exitcode is None:
            process.kill()
            process.join()
            told.kills += 1
            continue
        assert process.exitcode == 0, f"{day} ended with {process.exitcode}"
        usual.append(time.monotonic() - began)
        return
    raise AssertionError(f"{day} was never finished")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_sixty_days_with_kills_late_files_and_reruns_end_sound(tmp_path: Path) -> None:
    dice, told, usual = random.Random(20260105), Told(), list[float]()
    FORK.set_forkserver_preload(["deltalake", "duckdb", "numpy", "polars", "pyarrow.parquet", "torch"])
    Simulation(FUNNEL).write(tmp_path / "all", DAYS)
    house, held = open_house(tmp_path), list[tuple[date, Path, Path]]()
    for nth, day in enumerate(DAYS):
        deliver(tmp_path, day, dice, held, told)
        finish(tmp_path, day, dice, told, usual)
        if dice.random() < RERUN:
            told.reruns += 1
            before = identities(house)
            run_day(house, dice.choice(DAYS[: nth + 1]), LINES)
            assert identities(house) == before, "a rerun of a finished day changed something"
        told.peaks.append(int((tmp_path / f"peak-{day}").read_text("utf-8")))
        told.files.append(len(files_below(house.store.root)))
        told.live.append(
            sum(len(house.store.snapshot(table).files) for table in (samples(house.scenario), MODELS))
        )
        nothing_is_left(house)
        line = f"{day}: {told.kills} kills, {told.late} late, {told.reruns} reruns, {told.files[-1]} files"
        print(f"{line}, {told.peaks[-1] >> 10} MiB, {usual[-1]:.1f} s", flush=True)
    for day, file, place in held:  # what was to come after the last day
        shutil.move(file, place / "part-9.parquet")
        print(f"{day}: the rest has come", flush=True)
    finish(tmp_path, DAYS[-1], dice, told, usual)
    print(json.dumps({"kills": told.kills, "late": told.late, "reruns": told.reruns}), flush=True)
    nothing_to_do(house)
    rows_are_conserved_by_reason(house)
    one_generation_a_day(house)
    the_chain_is_unbroken(house)
    flat(told)
    assert check_published(house) == []
    assert verified(house).faults == ()


def deliver(
    root: Path, day: date, dice: random.Random, held: list[tuple[date, Path, Path]], told: Told
) -> None:
    """The day's files, now and then but for some rows of one that come days later; what is due of those."""
    for due, file, place in [one for one in held if one[0] <= day]:
        shutil.move(file, place / "part-9.parquet")
        held.remove((due, file, place))
    for folder in (root / "all").glob(f"*/dt={day}"):
        if folder.parent.name != "truth":
            shutil.copytree(folder, root / "logs" / folder.parent.name / folder.name)
    if dice.random() < LATE:
        place = root / "logs" / dice.choice(["exposure", "click", "conversion"]) / f"dt={day}"
        file = max(place.glob("*.parquet"), key=lambda one: one.stat().st_size)
        rows = pl.read_parquet(file)
        cut = max(1, rows.height // 12)
        rest = root / f"rest-{day}.parquet"
        rows.tail(cut).write_parquet(rest)
        rows.head(rows.height - cut).write_parquet(file)
        held.append((day + timedelta(days=dice.randint(1, 3)), rest, place))
        told.late += 1


def identities(house: House) -> dict[str, str]:
    """Which version of each table is live; the ledger's too."""
    tables = (samples(house.scenario), scores(house.scenario), MODELS, RUNS, QUARANTINE)
    return {table.name: house.store.snapshot(table).identity for table in tables}


def nothing_is_left(house: House) -> None:
    for folder in ("_staging", "_scratch", "_partial"):
        left = [file for file in files_below(house.store.root / folder) if file.suffix != ".lock"]
        assert left == [], left


def nothing_to_do(house: House) -> None:
    request = Request(house, LINES)
    assert request.unfinished(DAYS) == ()
    assert request.stale() == ()
    assert house.store.days(scores(house.scenario)) == [day + timedelta(days=1) for day in DAYS]


def rows_are_conserved_by_reason(house: House) -> None:
    """Of every source and day: rows of the files = rows kept + copies + rows refused, and these by reason."""
    refused = house.store.scan(QUARANTINE).group_by("dt", "origin", "reason").len().collect().rows()
    by_place: dict[tuple[date, str], Counter[str]] = {}
    for day, origin, reason, count in refused:
        by_place.setdefault((day, origin), Counter())[reason] = count
    checked = 0
    for source in house.scenario.sources:
        for day in DAYS:
            raw = sum(pl.read_parquet(file).height for file in house.logs.glob(source.files.format(day=day)))
            found = house.store.generation(events(source), day)
            assert found is not None
            assert found.record["rows_in"] == raw, (source.name, day)
            reasons = Counter(found.record["quarantined"])
            assert raw == found.rows + found.record["deduplicated"] + reasons.total()  # type: ignore[operator]
            kept = by_place.get((day, f"read.{source.name}"), Counter())
            kept += by_place.get((day, f"rule.events.{source.name}"), Counter())
            assert reasons == kept, (source.name, day)
            checked += 1
    assert checked == len(DAYS) * len(house.scenario.sources)


def one_generation_a_day(house: House) -> None:
    for table in (
        samples(house.scenario),
        MODELS,
        scores(house.scenario),
        *map(events, house.scenario.sources),
    ):
        live = house.store.snapshot(table)
        for partition in live.partitions:
            assert len(live.keys(partition)) == 1, partition
    twice = (
        house.store.scan(samples(house.scenario)).group_by("impression_id").len().filter(pl.col("len") > 1)
    )
    assert twice.collect().is_empty()


def the_chain_is_unbroken(house: House) -> None:
    """Each day's version stands on that of an earlier day, and all lead back to the first."""
    rows = (
        house.store.scan(MODELS).select("dt", "model_version", "parent_version").sort("dt").collect().rows()
    )
    assert [day for day, _, _ in rows] == DAYS
    known: dict[str, date] = {}
    for day, version, parent in rows:
        assert version not in known
        assert (parent is None) == (day == DAYS[0]), day
        assert parent is None or known[parent] < day
        known[version] = day


def flat(told: Told) -> None:
    """No day takes more memory, or leaves more files, than the days before it did."""
    third = len(told.files) // 3
    middle, late = told.peaks[third : 2 * third], told.peaks[2 * third :]
    assert max(late) < 1.2 * max(middle), (middle, late)
    grown = [told.files[2 * third] - told.files[third], told.files[-1] - told.files[2 * third]]
    assert grown[1] < 1.5 * grown[0], told.files
    assert told.live[-1] - told.live[2 * third] <= told.live[2 * third] - told.live[third] + 4, told.live
