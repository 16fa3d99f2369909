"""What a day's samples cost as the history before them grows, and as the day itself grows.

    python benchmarks/daily_build.py [--histories 7 30 90] [--sizes 200000 2000000] [--keep FOLDER] [--seed 0]
    python benchmarks/daily_build.py --histories --sizes 200000 2000000 20000000

Simulated logs of the scenario ``shop`` (``simulated_logs.py``) go through the stages read, view, sample and
validate. Two curves are measured:

* history: the cost of one day with so many days of the same volume (``--day-size``) before it, which should
  not grow with their number. The earlier days are built by the very same stages. Figures are medians of
  ``--repeats`` consecutive days.
* volume: the cost of one day of so many impressions after ``--earlier`` days of the same volume, which should
  be so much an impression. A purchase is open for three days, so a day's run makes the samples of four days,
  its own and three restated ones, and reads the events of six; with fewer days before it, of as many as
  there are.

Every stage of a measured day runs in a process of its own: wall and CPU seconds (user and system, all
threads) from before the warehouse is opened to after the commit, and the greatest resident set of the process
(``VmHWM``, so Linux is needed), in which Python and the libraries alone take about 0.2 GiB. DuckDB may use
``--memory-limit``, the default of the settings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from peak import peak_mib
from simulated_logs import Shop, write_day

from flows import day as flow
from flows.house import House
from flows.settings import Settings
from flows.stages import read, sample, validate, view

FIRST = date(2026, 4, 1)
STAGES = {stage.name: stage.run for stage in flow.STAGES}
BUILD = (read.STAGE, view.STAGE, sample.STAGE, validate.STAGE)
UNITS = ("wall_s", "cpu_s", "peak_gib")
#: Of a measured day: by stage, the named figures.
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Place:
    """Logs and warehouse of one curve.

    Attributes:
        folder: holds both.
        memory: what DuckDB may use.
        seed: of the logs.
        stages: those of a day that are run.
        lines: model lines to train and score.
    """

    folder: Path
    memory: str
    seed: int
    stages: tuple[str, ...] = BUILD
    lines: tuple[str, ...] = ()

    def house(self) -> House:
        """Opened as every run opens it."""
        logs = {"shop": self.folder / "logs"}
        return House.open(
            Settings(
                warehouse=self.folder / "warehouse", logs=logs, scenario="shop", memory_limit=self.memory
            )
        )

    def child(self, *words: str) -> str:
        """Run this file in a process of its own and return what it prints."""
        common = ["--at", str(self.folder), "--memory-limit", self.memory, "--seed", str(self.seed)]
        common += ["--stages", *self.stages, "--lines", *self.lines]
        done = subprocess.run(
            [sys.executable, __file__, *common, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-4000:]}")
        return done.stdout


def run_stage(place: Place, stage: str, day: date) -> dict[str, float]:
    """Wall and CPU seconds, peak memory and rows of one stage of one day, in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    records = STAGES[stage](place.house(), day, place.lines)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert not all(record.repeated for record in records), f"{stage} of {day} was done already"
    return {"wall_s": wall, "cpu_s": cpu, "peak_gib": peak_mib() / 1024}


def write_logs(place: Place, first: date, days: int, size: int) -> list[date]:
    """Write the logs of some days and return the days."""
    shop = Shop.of_size(size, place.seed)
    written = [first + timedelta(days=n) for n in range(days)]
    for day in written:
        write_day(place.folder / "logs", day, size, shop)
    return written


def history(place: Place, lengths: list[int], size: int, repeats: int = 1) -> Iterator[tuple[int, Figures]]:
    """Measure the days after so many days, for each length; one warehouse grows through all of them."""
    there = 0
    for length in sorted(lengths):
        say(f"{length} days of {size:,} impressions, then {repeats} more")
        since, missing = time.perf_counter(), length - there
        if missing:
            place.child("--build", str(FIRST + timedelta(days=there)), str(missing), str(size))
        say(f"  {missing} days built in {time.perf_counter() - since:.0f} s")
        days = [FIRST + timedelta(days=length + n) for n in range(repeats)]
        yield length, middle([measure(place, day, size) for day in days])
        there = length + repeats


def middle(found: list[Figures]) -> Figures:
    """Medians of the same figures of several days."""
    return {stage: {unit: median(one[stage][unit] for one in found) for unit in UNITS} for stage in found[0]}


def measure(place: Place, day: date, size: int) -> Figures:
    """Figures of every stage of a day, each in a process of its own; its logs are written first."""
    place.child("--write", str(day), "1", str(size))
    found = {}
    for stage in place.stages:
        found[stage] = json.loads(place.child("--stage", stage, str(day)))
        say(f"  {stage:9}" + "".join(f"{name} {found[stage][name]:8.2f}   " for name in UNITS))
    found["all"] = {
        "wall_s": sum(one["wall_s"] for one in found.values()),
        "cpu_s": sum(one["cpu_s"] for one in found.values()),
        "peak_gib": max(one["peak_gib"] for one in found.values()),
    }
    return found


def table(head: str, rows: Mapping[int, Figures], per: Mapping[int, int]) -> None:
    """Print a line per row and stage, with the cost against the first row's, per impression of the row."""
    print(f"\n{head:>12}  stage        wall s     CPU s  µs CPU/row  ratio  peak GiB")
    first = next(iter(rows))
    for name, figures in rows.items():
        for stage, one in figures.items():
            cost = one["cpu_s"] / per[name]
            ratio = cost / (rows[first][stage]["cpu_s"] / per[first])
            print(
                f"{name:>12,}  {stage:9} {one['wall_s']:9.1f} {one['cpu_s']:9.1f}  {1e6 * cost:10.2f}"
                f"  {ratio:5.2f}  {one['peak_gib']:8.2f}"
            )


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Both curves, or the part of one that this process was started for."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--histories", type=int, nargs="*", default=[7, 30, 90], help="days before the day")
    words.add_argument("--repeats", type=int, default=3, help="days measured at each of them; medians count")
    words.add_argument("--day-size", type=int, default=20_000, help="impressions a day of that curve")
    words.add_argument("--sizes", type=int, nargs="*", default=[200_000, 2_000_000], help="impressions a day")
    words.add_argument("--earlier", type=int, default=1, help="days of the same size before, in that curve")
    words.add_argument("--memory-limit", default="4GB", help="what DuckDB may use")
    words.add_argument("--keep", type=Path, help="work in this new folder and leave it there")
    words.add_argument("--seed", type=int, default=0)
    for part in ("--at", "--stage", "--build", "--write"):
        words.add_argument(part, nargs={"--at": 1, "--stage": 2}.get(part, 3), help=argparse.SUPPRESS)
    words.add_argument("--stages", nargs="*", default=BUILD, help=argparse.SUPPRESS)
    words.add_argument("--lines", nargs="*", default=(), help=argparse.SUPPRESS)
    told = words.parse_args()
    if told.at:
        place = Place(Path(told.at[0]), told.memory_limit, told.seed, tuple(told.stages), tuple(told.lines))
        work(place, told)
        return
    with TemporaryDirectory() as scratch:
        root = told.keep or Path(scratch)
        if told.histories:
            place = Place(root / "history", told.memory_limit, told.seed)
            found = dict(history(place, told.histories, told.day_size, told.repeats))
            table("days before", found, dict.fromkeys(found, told.day_size))
        volumes = {}
        for size in sorted(told.sizes):
            place = Place(root / f"volume-{size}", told.memory_limit, told.seed)
            volumes[size] = dict(history(place, [told.earlier], size))[told.earlier]
            if told.keep is None:
                shutil.rmtree(place.folder)
        if volumes:
            table("impressions", volumes, {size: size for size in volumes})


def work(place: Place, told: argparse.Namespace) -> None:
    """What a process of its own does: measure a stage, write logs, or write and run days."""
    if told.stage:
        print(json.dumps(run_stage(place, told.stage[0], date.fromisoformat(told.stage[1]))))
        return
    first, days, size = told.build or told.write
    for day in write_logs(place, date.fromisoformat(first), int(days), int(size)):
        for stage in place.stages if told.build else ():
            STAGES[stage](place.house(), day, place.lines)


if __name__ == "__main__":
    main()
