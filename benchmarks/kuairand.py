"""The model family on the shipped real days, prequential, over several seeds.

    python benchmarks/kuairand.py [--lines architectures methods] [--seeds 3] [--days 9] [--scored 5]
        [--results FILE]

The stages read, view, sample and validate make the samples of every day once, and the id maps grow by the
stage ``train`` without lines. Every line of ``kuairand_lines.py`` then learns the same batches, day by day: a
day is scored as a whole before any of it is learned, with ids as known the day before. ``--lines`` takes
families and single lines; a seed decides initial weights and the order of rows, and the first is that of the
shipped lines.

A figure is a seed's mean over the last ``--scored`` days, as the first ones tell of the start alone; mean and
standard deviation over the seeds are printed. A star says that the difference to the first line of the table,
seed by seed, has a 95 % interval without 0 (Student's t over the seeds). It speaks of seeds alone, not of
other days or users, and one cell in twenty has it by chance.

``--results`` keeps every figure in a file and goes on where a run of the same code ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import polars as pl
import torch
from kuairand_lines import FAMILIES
from quality import encoder_after, rows_of
from scipy.stats import t as student

from features.batches import targets, training_batches
from flows.day import available_days
from flows.house import House
from flows.recipes import Recipe
from flows.settings import Settings
from flows.stages import read, sample, train, validate, view
from flows.stages.version import load
from models.batch import Batch
from models.metrics import evaluate
from models.score import score_arrays
from models.train import train_one_pass

#: What is shown: objective, space, and what the table calls it.
SPACES = {
    ("click", "impressions"): "click",
    ("long_view", "given_click"): "long view, clicked",
    ("long_view", "impressions"): "pCTCVR",
    ("like", "impressions"): "like",
}
#: Tables, each with its metrics and their decimals.
TABLES = ({"auc": 4, "gauc": 4}, {"log_loss": 4, "pcoc": 3})

#: By name, a number per scored day, and per learned day the CPU seconds.
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Day:
    """One day's rows, encoded for scoring with the ids of the day before.

    Attributes:
        day: when.
        rows: samples whose labels became final on it.
        scored: encoded for scoring; ``None`` on the first day.
        before: the day before it; ``None`` on the first.
    """

    day: date
    rows: pl.DataFrame
    scored: Mapping[str, np.ndarray] | None
    before: date | None


def built(house: House, count: int) -> tuple[Day, ...]:
    """The first ``count`` shipped days, through the real stages; what is there already stays."""
    days = available_days(house)[:count]
    for day in days:
        for stage in (read, view, sample, validate, train):
            stage.run(house, day, ())
    found, before = [], None
    for day in days:
        rows = rows_of(house, day)
        found.append(Day(day, rows, encoder_after(house, before).encode(rows) if before else None, before))
        before = day
    return tuple(found)


def batches_of(house: House, days: Sequence[Day], recipe: Recipe) -> list[list[Batch]]:
    """Batches of every day, encoded with the ids known after it and shuffled by the recipe's seed."""
    return [
        [
            Batch.from_numpy(arrays)
            for arrays in training_batches(
                day.rows.lazy(),
                house.scenario,
                encoder_after(house, day.day),
                batch_rows=recipe.batch_rows,
                window_rows=recipe.window_rows,
                seed=int(np.random.SeedSequence([recipe.seed, day.day.toordinal()]).generate_state(1)[0]),
            )
        ]
        for day in days
    ]


def prequential(house: House, days: Sequence[Day], recipe: Recipe, batches: Sequence[list[Batch]]) -> Figures:
    """Every figure of one line and seed on every day but the first, and what learning cost."""
    line = load(house, recipe, None)
    found: Figures = {}
    cost: list[float] = []
    for day, learned in zip(days, batches, strict=True):
        if day.scored is not None and day.before is not None:
            label = targets(day.rows, house.scenario)
            scores = score_arrays(line, day.scored)
            user = day.rows["user_id"].to_numpy()
            for metric in evaluate(house.scenario.funnel, label["y"], label["trains"], scores, user):
                if (metric.objective, metric.space) in SPACES:
                    assert metric.value is not None, metric
                    found.setdefault(_key(metric.objective, metric.space, metric.name), []).append(
                        metric.value
                    )
            line.reset_rows(
                torch.from_numpy(encoder_after(house, day.day).rows_given_after(day.before)), recipe.seed
            )
        begun = time.process_time()
        train_one_pass(line, learned)
        cost.append(time.process_time() - begun)
    return found | {"cpu_s": cost, "weights": [float(line.num_parameters)]}


def _key(objective: str, space: str, metric: str) -> str:
    return f"{objective}/{space}/{metric}"


def chosen_lines(wanted: Sequence[str]) -> dict[str, tuple[Recipe, ...]]:
    """Lines by family; a single line comes with the first of its family, which it is compared with."""
    known = {*FAMILIES, *(recipe.name for lines in FAMILIES.values() for recipe in lines)}
    if unknown := sorted(set(wanted) - known):
        raise SystemExit(f"unknown lines {unknown}; known are {sorted(known)}")
    chosen = {}
    for family, lines in FAMILIES.items():
        kept = lines if family in wanted else tuple(recipe for recipe in lines if recipe.name in wanted)
        if kept and (family in wanted or kept != lines[:1]):
            chosen[family] = kept if kept[0] is lines[0] else (lines[0], *kept)
    return chosen


def measured(
    house: House, days: Sequence[Day], recipes: Mapping[str, Recipe], seeds: int, file: Path | None
) -> dict[str, list[Figures]]:
    """Figures by line and seed; with a file, they are kept there, and those found there are not redone."""
    kept: dict[str, Figures] = {}
    if file is not None and file.exists():
        kept = dict(json.loads(text) for text in file.read_text().splitlines())
    found: dict[str, list[Figures]] = {name: [] for name in recipes}
    for seed in range(Recipe.seed, Recipe.seed + seeds):
        batches: list[list[Batch]] = []
        for name, recipe in recipes.items():
            key = f"{name}, seed {seed}, {len(days)} days"
            if key not in kept:
                seeded = replace(recipe, seed=seed)
                batches = batches or batches_of(house, days, seeded)
                kept[key] = prequential(house, days, seeded, batches)
                print(f"{key}: {sum(kept[key]['cpu_s']):.1f} CPU s", flush=True)
                if file is not None:
                    with file.open("a") as out:
                        out.write(json.dumps([key, kept[key]]) + "\n")
            found[name].append(kept[key])
    return found


def differs(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the mean of the differences, seed by seed, has a 95 % interval without 0."""
    difference = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(difference) < 2:
        return False
    reach = student.ppf(0.975, len(difference) - 1) * stdev(difference) / len(difference) ** 0.5
    return bool(abs(fmean(difference)) > reach)


def table(
    names: Sequence[str], found: Mapping[str, list[Figures]], metrics: Mapping[str, int], last: int
) -> Iterator[str]:
    """Lines of one table: mean, deviation and star of every metric in every space."""
    columns = {
        f"{shown} {metric.replace('_', ' ')}": (_key(*space, metric), decimals)
        for space, shown in SPACES.items()
        for metric, decimals in metrics.items()
    }
    yield f"| line | {' | '.join(columns)} |"
    yield f"|{' --- |' * (len(columns) + 1)}"
    for name in names:
        cells = []
        for key, decimals in columns.values():
            values, base = ([fmean(seed[key][-last:]) for seed in found[n]] for n in (name, names[0]))
            spread = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
            star = "*" if name != names[0] and differs(values, base) else ""
            cells.append(f"{fmean(values):.{decimals}f}{spread}{star}")
        yield f"| {name} | {' | '.join(cells)} |"


def costs(names: Sequence[str], found: Mapping[str, list[Figures]]) -> Iterator[str]:
    """Lines of the table of weights and of CPU seconds to learn all days."""
    yield "| line | weights, thousands | CPU s |"
    yield "| --- | --- | --- |"
    for name in names:
        cost = fmean(sum(seed["cpu_s"]) for seed in found[name])
        yield f"| {name} | {found[name][0]['weights'][0] / 1e3:,.0f} | {cost:.1f} |"


def _cost(found: Mapping[str, list[Figures]]) -> float:
    return sum(sum(seed["cpu_s"]) for seeds in found.values() for seed in seeds)


def main() -> None:
    """Build what is missing, measure, print a table per family."""
    parser = argparse.ArgumentParser(description="The model family on the shipped days of KuaiRand.")
    parser.add_argument("--warehouse", type=Path, help="default: the one of the settings")
    parser.add_argument("--lines", nargs="+", default=["architectures", "methods"], help="families or lines")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=int, default=9, help="shipped days, from the first; at least 2")
    parser.add_argument("--scored", type=int, default=5, help="days that figures are of, from the last")
    parser.add_argument("--results", type=Path, help="keep every figure there, and go on where a run ended")
    asked = parser.parse_args()
    families = chosen_lines(asked.lines)
    settings = Settings.load()
    if asked.warehouse is not None:
        settings = settings.model_copy(update={"warehouse": asked.warehouse.absolute()})
    torch.set_num_threads(1)
    house = House.open(settings, "kuairand")
    days = built(house, asked.days)
    scored = days[max(1, len(days) - asked.scored) :]
    if not scored or asked.scored < 1 or asked.seeds < 1:
        raise SystemExit("nothing to score: at least two days, one of them scored, and one seed")
    recipes = {recipe.name: recipe for lines in families.values() for recipe in lines}
    found = measured(house, days, recipes, asked.seeds, asked.results)
    print(
        f"\n{os.cpu_count()} cores, one thread; Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}\n"
        f"{sum(len(day.rows) for day in scored):,} impressions of {scored[0].day} to {scored[-1].day}; "
        f"{asked.seeds} seeds; {_cost(found):,.0f} CPU s "
        "of learning"
    )
    for family, lines in families.items():
        names = [recipe.name for recipe in lines]
        print(f"\n{family}")
        for metrics in TABLES:
            print("", *table(names, found, metrics, len(scored)), sep="\n")
        print("", *costs(names, found), sep="\n")


if __name__ == "__main__":
    main()
