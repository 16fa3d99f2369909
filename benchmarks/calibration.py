"""Raw scores against calibrated ones by day, on rows that no fit has seen, and what calibration costs a day.

    python benchmarks/calibration.py [--scenario kuairand] [--line esmm] [--days N] [--warehouse FOLDER]

The days are run where the warehouse lacks them. The rows of every day are then scored by the version before
it, and calibrated by what was known the day before, in four ways:

* ``raw``: as the model says;
* ``published``: by the table ``calibrators``, which is what ``scores`` has;
* ``always``: the same methods, fitted to the same days, published without having to prove themselves;
* ``platt``: as ``always``, but two numbers however many positives there are.

``pctcvr`` has a fifth: ``product``, the published ``pctr_cal * pcvr_cal``.

``level`` is the mean over days of ``|ln PCOC|``: 0.10 is 10 % off on an average day. Log loss and ECE are
means over days. The first two evaluated days have no published curve and are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
from quality import line_scores, rows_of

from features.batches import targets
from features.schemas import scores
from flows import recipes
from flows.day import STAGES, available_days, check_day, close
from flows.house import House
from flows.settings import Settings
from flows.stages.calibrate import calibrator_of
from flows.stages.record import StageRecord
from models.calibration import Bins, Calibration, Curve
from models.calibration.identity import identity
from models.calibration.isotonic import isotonic
from models.calibration.platt import platt
from models.calibration.scores import calibrated
from models.metrics import ece, log_loss, pcoc
from models.metrics.spaces import spaces

Rows = tuple[np.ndarray, np.ndarray]
Fit = Callable[[Bins], Curve]


@dataclass(frozen=True)
class Day:
    """One evaluated day: labels and raw score by column, and the published twins, each on its own rows."""

    day: date
    raw: Mapping[str, Rows]
    published: Mapping[str, Rows]
    product: Rows


def run_days(house: House, days: Sequence[date], line: str) -> dict[str, float]:
    """Run what is not done; CPU seconds by stage of the days that were run."""
    spent: dict[str, float] = {}
    for day in days:
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
    funnel, recipe = house.scenario.funnel, recipes.get(house.scenario.name, line)
    click, conversion = ("pctr", "pcvr"), "pctcvr"
    for before, day in pairwise(days):
        frame = rows_of(house, day)
        said, label = line_scores(house, line, day, frame), targets(frame, house.scenario)
        known = calibrator_of(house, before, recipe)
        assert known is not None, f"{line} is not calibrated"
        twins = calibrated(funnel, known.curves, said)
        raw: dict[str, Rows] = {}
        shown: dict[str, Rows] = {}
        product: Rows = (np.empty(0), np.empty(0))
        for space in spaces(funnel, label["y"], label["trains"]):
            if not space.own or space.column.kind == "value":
                continue
            inside, name = space.inside_B, space.column.name
            y = label["y"][inside, space.place]
            raw[name], shown[name] = (y, said[name][inside]), (y, twins[space.column.calibrated][inside])
            if name == conversion:
                one, other = (twins[f"{factor}_cal"][inside] for factor in click)
                product = (y, one * other)
        yield Day(day, raw, shown, product)


def chosen(bins: Bins) -> Curve:
    """The methods of the default setting, without a proof."""
    setting, events = Calibration(), min(bins.positives, bins.rows - bins.positives)
    if events < setting.platt_from:
        return identity(bins)
    return isotonic(bins) if events >= setting.isotonic_from else platt(bins)


def two_numbers(bins: Bins) -> Curve:
    """Platt scaling wherever there is evidence."""
    few = min(bins.positives, bins.rows - bins.positives) < Calibration().platt_from
    return identity(bins) if few else platt(bins)


def refitted(days: Sequence[Day], column: str, fit: Fit) -> list[Rows]:
    """Every day's rows by a curve that is fitted to the days before it, at most three."""
    found = []
    for place, day in enumerate(days):
        bins = Bins.empty()
        for earlier in days[max(0, place - Calibration().days) : place]:
            bins = bins.merged(Bins.of(*earlier.raw[column]))
        y, p = day.raw[column]
        found.append((y, fit(bins).apply(p)))
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
        "always": refitted(days, column, chosen),
        "platt": refitted(days, column, two_numbers),
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


def cost(house: House, days: Sequence[date], line: str, spent: Mapping[str, float]) -> Iterator[str]:
    """Markdown: CPU seconds of calibration beside those of the days that were just run."""
    recipe = recipes.get(house.scenario.name, line)
    known = calibrator_of(house, days[-1], recipe)
    assert known is not None
    published = house.store.scan(scores(house.scenario), line=line).collect()
    raw = {c.name: published[c.name].to_numpy() for c in house.scenario.funnel.probabilities}
    begun = time.process_time()
    calibrated(house.scenario.funnel, known.curves, raw)
    applied = time.process_time() - begun
    whole = sum(spent.values())
    yield f"\n{len(days)} days, {published.height:,} published pairs; CPU s by stage:"
    yield ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    if spent["train"] > 1:
        share = (spent["calibrate"] + applied) / whole
        yield f"fit {spent['calibrate']:.2f} s, apply {applied:.2f} s, of {whole:.1f} s: {share:.1%}"


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
    print("\n".join(cost(house, days, told.line, spent)))


if __name__ == "__main__":
    main()
