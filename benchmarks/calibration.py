"""Raw scores against calibrated ones by day, on rows that no fit has seen, and what calibration costs a day.

    python benchmarks/calibration.py [--scenario kuairand] [--line esmm] [--days N] [--warehouse FOLDER]

Days of which the warehouse has no version of the line are run. The rows of every day are then scored by the
version before it, and calibrated by what was known the day before, in four ways:

* ``raw``: as the model says;
* ``published``: by the default setting, ``Calibration()``;
* ``always``: the same curves, all of their correction;
* ``three days``: as ``always``, fitted to three days in place of seven.

``pctcvr`` has a fifth: ``product``, the published ``pctr_cal * pcvr_cal``.

``level`` is the mean over days of ``|ln PCOC|``: 0.10 is 10 % off on an average day. Log loss and ECE are
means over days. The first two days with positives are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean

import numpy as np
from quality import line_scores, rows_of

from features.batches import targets
from features.bookkeeping import MODELS
from features.schemas import scores
from flows.day import STAGES, available_days, check_day, close
from flows.house import House
from flows.settings import Settings
from flows.stages.record import StageRecord
from models.calibration import Bins, Calibration
from models.calibration.identity import identity
from models.calibration.isotonic import isotonic
from models.calibration.platt import platt
from models.calibration.scores import calibrated
from models.metrics import ece, log_loss, pcoc
from models.metrics.spaces import spaces

Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Day:
    """One evaluated day: labels and raw score by column, and the published twins, each on its own rows."""

    day: date
    raw: Mapping[str, Rows]
    published: Mapping[str, Rows]
    product: Rows


def run_days(house: House, days: Sequence[date], line: str) -> dict[str, float]:
    """Run the days that have no version; CPU seconds by stage."""
    there = house.store.days(MODELS, line=line)
    spent: dict[str, float] = {}
    for day in days:
        if day in there:
            continue
        check_day(house, day)
        records: list[StageRecord] = []
        for stage in STAGES:
            begun = time.process_time()
            records += stage.run(house, day, (line,))
            spent[stage.name] = spent.get(stage.name, 0.0) + time.process_time() - begun
        close(house, day, tuple(records))
    return spent


def evaluated(house: House, days: Sequence[date], line: str) -> Iterator[Day]:
    """The rows of every day but the first, as the version before it saw them."""
    funnel, setting = house.scenario.funnel, Calibration()
    history: dict[str, list[Bins]] = {column.name: [] for column in funnel.probabilities}
    for day in days[1:]:
        frame = rows_of(house, day)
        said, label = line_scores(house, line, day, frame), targets(frame, house.scenario)
        curves = {name: setting.fit(known[-setting.reach :])[0] for name, known in history.items()}
        twins = calibrated(funnel, curves, said)
        raw: dict[str, Rows] = {}
        shown: dict[str, Rows] = {}
        product: Rows = (np.empty(0), np.empty(0))
        for space in spaces(funnel, label["y"], label["trains"]):
            if not space.own or space.column.kind == "value":
                continue
            inside, name = space.inside_B, space.column.name
            y = label["y"][inside, space.place]
            raw[name], shown[name] = (y, said[name][inside]), (y, twins[space.column.calibrated][inside])
            if name == "pctcvr":
                product = (y, twins["pctr_cal"][inside] * twins["pcvr_cal"][inside])
        for name, rows in raw.items():
            history[name].append(Bins.of(*rows))
        yield Day(day, raw, shown, product)


def whole(days: Sequence[Day], column: str, count: int) -> list[Rows]:
    """Every day's rows by all the correction of a curve that is fitted to the days before it."""
    setting, found = Calibration(), []
    for place, day in enumerate(days):
        bins = Bins.total(Bins.of(*earlier.raw[column]) for earlier in days[max(0, place - count) : place])
        events = min(bins.positives, bins.rows - bins.positives)
        curve = identity()
        if events >= setting.platt_from:
            curve = isotonic(bins) if events >= setting.isotonic_from else platt(bins)
        y, p = day.raw[column]
        found.append((y, curve.apply(p)))
    return found


def off(y: np.ndarray, p: np.ndarray) -> float:
    """How far the level is off, ``|ln PCOC|``; of rows with a positive."""
    ratio = pcoc(y, p)
    assert ratio is not None
    return abs(float(np.log(ratio)))


def table(days: Sequence[Day], column: str) -> Iterator[str]:
    """Markdown: PCOC by day, then the means of every way."""
    yield f"\n{column}\n"
    yield "| day | rows | positives | PCOC | calibrated | ECE | calibrated | log loss | calibrated |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for day in days:
        raw, shown = day.raw[column], day.published[column]
        if not raw[0].sum():
            continue
        pairs = [
            f"{measure(*rows):.{digits}f}"
            for measure, digits in ((pcoc, 3), (ece, 4), (log_loss, 4))
            for rows in (raw, shown)
        ]
        yield f"| {day.day} | {len(raw[0]):,} | {int(raw[0].sum()):,} | {' | '.join(pairs)} |"
    ways = {
        "raw": [day.raw[column] for day in days],
        "published": [day.published[column] for day in days],
        "always": whole(days, column, Calibration().days),
        "three days": whole(days, column, 3),
    }
    if column == "pctcvr":
        ways["product"] = [day.product for day in days]
    yield "\n| mean of days | level | ECE | log loss |"
    yield "| --- | --- | --- | --- |"
    with_evidence = [n for n, day in enumerate(days) if day.raw[column][0].sum()][2:]
    for name, found in ways.items():
        counted = [found[n] for n in with_evidence]
        if counted:
            means = [fmean(measure(*rows) for rows in counted) for measure in (off, ece, log_loss)]
            yield f"| {name} | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.5f} |"


def cost(house: House, days: Sequence[Day], line: str, spent: Mapping[str, float]) -> Iterator[str]:
    """Markdown: CPU seconds of calibration beside those of the days that were just run."""
    setting, columns = Calibration(), house.scenario.funnel.probabilities
    known = {c.name: [Bins.of(*day.raw[c.name]) for day in days[-setting.reach :]] for c in columns}
    begun = time.process_time()
    curves = {name: setting.fit(history)[0] for name, history in known.items()}
    fitted = time.process_time() - begun
    published = house.store.scan(scores(house.scenario), line=line).collect()
    raw = {c.name: published[c.name].to_numpy() for c in columns}
    begun = time.process_time()
    calibrated(house.scenario.funnel, curves, raw)
    applied = time.process_time() - begun
    yield f"\nfit of the last day {fitted:.3f} CPU s, apply to {published.height:,} pairs {applied:.2f} CPU s"
    if spent:
        yield "CPU s by stage: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())


def main() -> None:
    """Print all."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--scenario", default="kuairand")
    asked.add_argument("--line", default="esmm")
    asked.add_argument("--days", type=int)
    asked.add_argument("--warehouse", type=Path, default=Path("warehouse-calibration"))
    told = asked.parse_args()
    house = House.open(Settings(warehouse=told.warehouse), told.scenario)
    days = available_days(house)[: told.days]
    spent = run_days(house, days, told.line)
    found = list(evaluated(house, days, told.line))
    for column in house.scenario.funnel.probabilities:
        print("\n".join(table(found, column.name)))
    print("\n".join(cost(house, found, told.line, spent)))


if __name__ == "__main__":
    main()
