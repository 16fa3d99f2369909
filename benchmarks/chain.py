"""A chain of warm starts against retraining from scratch every day, prequential, with what each costs.

    python benchmarks/chain.py [--scenario kuairand] [--line esmm] [--windows 7 14] [--rates 0.5 1 2]
        [--days N] [--scored 5] [--warehouse FOLDER] [--results FOLDER]

Three ways to have a model for day D are compared on the rows of D, with ids as known the day before:

* ``warm``: the line's own chain. The model of D-2 learns the rows of D-1 once.
* ``scratch 7``, ``scratch 14``: a fresh line learns the rows of the last so many days once, shuffled together
  (within the recipe's window of rows); of fewer days where the logs begin later.

Every way is tried at several multiples of the recipe's learning rates, and shown at the one with the least
mean log loss over objectives and scored days: a line from scratch may want another rate than a chain, and all
choose on the same rows. The samples are made once by the real stages. What is learned is what the stage
``train`` learns, reading and encoding included, and its CPU seconds are the cost.

Intervals are of the difference to ``warm``: users are drawn with replacement, all their rows of all days with
them (95 %, percentiles). ``--results`` keeps predictions and cost, and goes on where a run of the same code
ended.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import torch
from kuairand import built
from quality import encoder_after, rows_of

from features.batches import fresh_rows, targets
from features.schemas import samples
from flows import recipes
from flows.house import House
from flows.recipes import Recipe
from flows.settings import Settings
from flows.stages.passes import Lesson, learn
from flows.stages.train import sample_days
from flows.stages.version import load
from models.line import Line
from models.score import score_arrays

ROUNDS = 200
_SEED = 20261126

Array = np.ndarray
#: Of one way and rate: by scored day the predictions by column, and the CPU seconds of learning.
Scores = dict[date, dict[str, Array]]


@dataclass(frozen=True)
class Truth:
    """Labels of the scored days.

    Attributes:
        y: by day and objective, labels of the rows that count.
        inside: by day and objective, which rows of the day count.
        user: by day, index of each row's user among all users, (N,).
        users: how many there are.
    """

    y: Mapping[tuple[date, str], Array]
    inside: Mapping[tuple[date, str], Array]
    user: Mapping[date, Array]
    users: int

    @classmethod
    def of(cls, house: House, days: Sequence[date]) -> Truth:
        """Labels of the rows that the chain is evaluated on."""
        funnel = house.scenario.funnel
        frames = {day: rows_of(house, day) for day in days}
        known = pl.concat([frame["user_id"] for frame in frames.values()]).unique().sort()
        label = {day: targets(frame, house.scenario) for day, frame in frames.items()}
        inside = {(d, o.name): label[d]["trains"][:, k] for d in days for k, o in enumerate(funnel)}
        y = {(d, o.name): label[d]["y"][:, k] for d in days for k, o in enumerate(funnel)}
        return cls(
            {key: values[inside[key]] for key, values in y.items()},
            inside,
            {day: known.search_sorted(frame["user_id"]).to_numpy() for day, frame in frames.items()},
            len(known),
        )


def lesson(house: House, recipe: Recipe, first: date, last: date) -> Lesson:
    """What became final on the days from ``first`` to ``last``, with the ids known after the last."""
    days = sample_days(house, last, house.day_start(first))  # those that the stage reads
    known = house.store.scan(samples(house.scenario), days).drop("dt")
    rows = fresh_rows(known, house.scenario, house.day_start(first), house.watermark(last))
    return Lesson(
        scenario=house.scenario, recipe=recipe, day=last, rows=rows, encoder=encoder_after(house, last)
    )


def scored(house: House, line: Line, day: date, before: date) -> dict[str, Array]:
    """Joint predictions on a day's rows by objective, ids as known the day before."""
    found = score_arrays(line, encoder_after(house, before).encode(rows_of(house, day)))
    return {c.objective: found[c.name] for c in house.scenario.funnel.score_columns if c.joint}


def warm(house: House, recipe: Recipe, days: Sequence[date], wanted: Sequence[date]) -> Scores:
    """The chain from the first day on."""
    line, found = load(house, recipe, None), {}
    spent, before = 0.0, None
    for day in days:
        if day in wanted and before is not None:
            found[day] = {**scored(house, line, day, before), "cpu_s": np.array(spent)}
        begun = time.process_time()
        task = lesson(house, recipe, day, day)
        if before is not None:
            line.reset_rows(torch.from_numpy(task.encoder.rows_given_after(before)), recipe.seed)
        learn(line, task)
        spent, before = time.process_time() - begun, day
    return found


def scratch(
    house: House, recipe: Recipe, days: Sequence[date], wanted: Sequence[date], window: int
) -> Scores:
    """A fresh line for every scored day."""
    found = {}
    for day in wanted:
        past = [earlier for earlier in days if earlier < day][-window:]
        begun = time.process_time()
        line = load(house, recipe, None)
        learn(line, lesson(house, recipe, past[0], past[-1]))
        spent = time.process_time() - begun
        found[day] = {**scored(house, line, day, past[-1]), "cpu_s": np.array(spent)}
    return found


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with both learning rates multiplied."""
    dense, embedding = recipe.dense_rate * rate, recipe.embedding_rate * rate
    return replace(recipe, dense_rate=dense, embedding_rate=embedding)


def losses(y_N: Array, p_N: Array) -> Array:
    """Log loss of every row, in nats, float64."""
    p_N = np.clip(p_N.astype(np.float64), 1e-7, 1 - 1e-7)
    return -(y_N * np.log(p_N) + (1 - y_N) * np.log1p(-p_N))


class WeightedAuc:
    """AUC of rows that count with weights, sorted once for many weights; ties count half."""

    def __init__(self, y_N: Array, p_N: Array) -> None:
        self.order = np.argsort(p_N, kind="stable")
        ordered = p_N[self.order]
        self.y = y_N[self.order] > 0
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def __call__(self, weight_N: Array) -> float:
        """The AUC with these weights."""
        weight = weight_N[self.order]
        positive, negative = (
            np.add.reduceat(np.where(chosen, weight, 0.0), self.starts) for chosen in (self.y, ~self.y)
        )
        below = np.cumsum(negative) - negative / 2
        return float(positive @ below / (positive.sum() * negative.sum()))


def figures(truth: Truth, scores: Scores, objective: str, weights_RU: Array) -> dict[str, Array]:
    """AUC and log loss by day, (days, rounds); ``weights_RU`` counts users, the first round all once."""
    found: dict[str, list[list[float]]] = {"auc": [], "log loss": []}
    for day, told in scores.items():
        key = day, objective
        y, p = truth.y[key], told[objective][truth.inside[key]]
        user = truth.user[day][truth.inside[key]]
        area, loss = WeightedAuc(y, p), losses(y, p)
        weights = [row[user] for row in weights_RU]
        found["auc"].append([area(weight) for weight in weights])
        found["log loss"].append([float(weight @ loss / weight.sum()) for weight in weights])
    return {name: np.array(values) for name, values in found.items()}


def measured(
    house: House, recipe: Recipe, days: Sequence[date], asked: argparse.Namespace
) -> dict[str, dict[float, Scores]]:
    """Predictions and cost by way and rate; those kept in the folder of results are read."""
    wanted = days[-asked.scored :]
    found: dict[str, dict[float, Scores]] = {}
    for rate in asked.rates:
        tuned = at_rate(recipe, rate)
        for way in ("warm", *(f"scratch {window}" for window in asked.windows)):
            file = asked.results / f"{way.replace(' ', '')}-{rate:g}-{days[0]}-{days[-1]}-{asked.scored}.npz"
            if not file.exists():
                made = (
                    warm(house, tuned, days, wanted)
                    if way == "warm"
                    else scratch(house, tuned, days, wanted, int(way.split()[1]))
                )
                flat = {
                    f"{day} {name}": values for day, told in made.items() for name, values in told.items()
                }
                np.savez(file, **flat)
            kept = np.load(file)
            scores: Scores = {day: {} for day in wanted}
            for key in kept.files:
                day, name = key.split(" ", 1)
                scores[date.fromisoformat(day)][name] = kept[key]
            found.setdefault(way, {})[rate] = scores
            cost = sum(float(told["cpu_s"]) for told in scores.values())
            print(f"{way} at {rate:g} times the rates: {cost:.1f} CPU s for {len(wanted)} days", flush=True)
    return found


def best(truth: Truth, by_rate: Mapping[float, Scores], objectives: Sequence[str]) -> float:
    """The rate of the least mean log loss."""
    once = np.ones((1, truth.users))
    mean = {
        rate: np.mean([figures(truth, scores, o, once)["log loss"].mean() for o in objectives])
        for rate, scores in by_rate.items()
    }
    return min(mean, key=lambda rate: mean[rate])


def table(truth: Truth, chosen: Mapping[str, Scores], objective: str, weights_RU: Array) -> Iterator[str]:
    """Lines of the table of one objective: by day, and their mean with intervals."""
    found = {way: figures(truth, scores, objective, weights_RU) for way, scores in chosen.items()}
    ways = list(chosen)
    yield (
        f"| {objective} | "
        + " | ".join(f"{w} AUC" for w in ways)
        + " | "
        + " | ".join(f"{w} log loss" for w in ways)
        + " |"
    )
    yield "| --- |" + " --- |" * (2 * len(ways))
    for place, day in enumerate(chosen["warm"]):
        values = [f"{found[w][name][place, 0]:.4f}" for name in ("auc", "log loss") for w in ways]
        yield f"| {day} | " + " | ".join(values) + " |"
    values = [f"{found[w][name][:, 0].mean():.4f}" for name in ("auc", "log loss") for w in ways]
    yield "| mean | " + " | ".join(values) + " |"
    cells = []
    for name in ("auc", "log loss"):
        base = found["warm"][name].mean(axis=0)
        for way in ways:
            difference = base - found[way][name].mean(axis=0)
            low, high = np.percentile(difference[1:], [2.5, 97.5])
            shown = f"{difference[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
            cells.append("" if way == "warm" else shown)
    yield "| warm less this | " + " | ".join(cells) + " |"


def main() -> None:
    """Build what is missing, measure, print a table per objective and the cost."""
    parser = argparse.ArgumentParser(description="Warm starts against retraining from scratch.")
    parser.add_argument("--scenario", default="kuairand")
    parser.add_argument("--line", default="esmm", help="a recipe of the scenario")
    parser.add_argument("--windows", type=int, nargs="+", default=[7, 14], help="days of a line from scratch")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--days", type=int, help="days from the first; default: all that there are")
    parser.add_argument("--scored", type=int, default=5, help="days that figures are of, from the last")
    parser.add_argument("--warehouse", type=Path, help="default: the one of the settings")
    parser.add_argument("--results", type=Path, default=Path("chain-results"))
    asked = parser.parse_args()
    settings = Settings.load()
    if asked.warehouse is not None:
        settings = settings.model_copy(update={"warehouse": asked.warehouse.absolute()})
    torch.set_num_threads(1)
    house = House.open(settings, asked.scenario)
    days = [day.day for day in built(house, asked.days or 10_000)]
    asked.results.mkdir(parents=True, exist_ok=True)
    recipe = recipes.get(asked.scenario, asked.line)
    found = measured(house, recipe, days, asked)
    truth = Truth.of(house, days[-asked.scored :])
    objectives = [o.name for o in house.scenario.funnel if o.kind == "binary"]
    rates = {way: best(truth, by_rate, objectives) for way, by_rate in found.items()}
    chosen = {way: by_rate[rates[way]] for way, by_rate in found.items()}
    draw = np.random.default_rng(_SEED)
    drawn = draw.multinomial(truth.users, np.full(truth.users, 1 / truth.users), ROUNDS)
    weights_RU = np.concatenate([np.ones((1, truth.users)), drawn])
    print(
        f"\n{os.cpu_count()} cores, one thread; Python {platform.python_version()}, "
        f"torch {torch.__version__}\n"
        f"{asked.scenario}, line {asked.line}, {sum(map(len, truth.user.values())):,} impressions of "
        f"{days[-asked.scored]} to {days[-1]} scored, {len(days)} days learned"
    )
    for objective in objectives:
        print("", *table(truth, chosen, objective, weights_RU), sep="\n")
    print("\n| way | times the rates | CPU s a day | warm's share |\n| --- | --- | --- | --- |")
    cost = {way: float(np.mean([told["cpu_s"] for told in s.values()])) for way, s in chosen.items()}
    for way, spent in cost.items():
        print(f"| {way} | {rates[way]:g} | {spent:.2f} | {cost['warm'] / spent:.3f} |")


if __name__ == "__main__":
    main()
