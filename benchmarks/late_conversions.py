"""Policies for late conversions on a simulated funnel whose truth is known, each at its own best rate.

    python benchmarks/late_conversions.py [--days 22] [--scored 7] [--impressions 10000] [--ctr 0.3]
        [--cvr 0.2] [--drifts fast slow] [--lines esmm ple] [--policies naive likelihood ...] [--rates 1 2 4]
        [--seeds 3] [--warehouse FOLDER] [--results FILE]

Every policy has a chain of warm starts of its own, day by day, over samples that the real stages made: what
is learned on a day is what the stage ``train`` learns, with labels as they were known by then and F as the
table ``completeness`` had it. Before a day is learned, all its impressions are scored and held to the truth:

* regret: expected log loss of pCTCVR beyond that of the truth, in 1e-5 nats an impression;
* closed: share of the gap between ``naive`` and ``oracle`` that the policy closes;
* ratio: sum of the scores over the sum of true probabilities; PCOC: over the conversions that followed.

``oracle`` learns on the first day what the labels will be in the end. The rates of the recipe are multiplied
by each of ``--rates`` on a simulation of its own, which is not reported; the seeds run at the one of the
least regret. ``--results`` keeps figures, and goes on where a run ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

import numpy as np
import polars as pl
import torch
from chain import at_rate
from quality import encoder_after

from features.schemas import samples
from features.simulation import Simulation, SimulationSettings
from features.simulation.oracle import judged, truth
from flows import recipes
from flows.house import House
from flows.recipes import Recipe
from flows.settings import Settings
from flows.stages import read, sample, view
from flows.stages.encode import grow_id_maps
from flows.stages.late import lesson_rows
from flows.stages.passes import Lesson, learn
from flows.stages.version import load
from models.late.base import Late
from models.late.defer import Defer
from models.late.es_dfm import ESDFM
from models.late.fnw import FNW
from models.late.fsiw import FSIW
from models.late.likelihood import Likelihood
from models.late.naive import Naive
from models.late.relabel import Relabel
from models.late.soft_label import SoftLabel
from models.late.wait import Wait
from models.score import score_arrays

ORACLE = "oracle"
POLICIES: dict[str, Late] = {
    ORACLE: Naive(),
    "naive": Naive(),
    "wait": Wait(),
    "relabel": Relabel(),
    "soft_label": SoftLabel(),
    "likelihood": Likelihood(),
    "fsiw": FSIW(),
    "fnw": FNW(),
    "es_dfm": ESDFM(),
    "defer": Defer(),
}
#: The simulation on which rates are chosen.
TUNING = 1_000
#: Of one chain: means over the scored days, and CPU seconds of learning a day.
Figures = dict[str, float]


@dataclass(frozen=True)
class World:
    """A simulated funnel up to its samples.

    Attributes:
        house: its warehouse.
        days: all of them.
        scored: by scored day the encoded impressions, their ids, and how many conversions followed.
        converts: ``impression_id`` of all impressions that convert.
        read: by day and policy, the rows of its lesson; filled as they are asked for.
    """

    house: House
    days: tuple[date, ...]
    scored: Mapping[date, tuple[Mapping[str, np.ndarray], pl.Series, int]]
    converts: pl.Series
    read: dict[tuple[date, str], pl.DataFrame]

    @classmethod
    def of(cls, root: Path, settings: SimulationSettings, days: int, scored: int) -> World:
        """Simulate and run the real stages; what is there already stays."""
        dates = tuple(settings.start + timedelta(days=n) for n in range(days))
        Simulation(settings).write(root / "logs", dates)
        told = Settings(warehouse=root / "warehouse", logs={"simulated": root / "logs"}, scenario="simulated")
        house = House.open(told)
        for day in dates:
            for stage in (read, view, sample):
                stage.run(house, day, ())
            grow_id_maps(house, day)
        shown = pl.concat(
            pl.read_parquet(house.logs / "truth" / f"dt={day}" / "*.parquet").with_columns(dt=pl.lit(day))
            for day in dates
        ).filter("clicked", "converts")
        ready = {}
        for day in dates[-scored:]:
            rows = house.store.scan(samples(house.scenario), [day]).collect()
            arrays = encoder_after(house, day - timedelta(days=1)).encode(rows)
            ready[day] = (arrays, rows["impression_id"], shown.filter(dt=day).height)
        return cls(house, dates, ready, shown["impression_id"], {})

    def lesson(self, recipe: Recipe, policy: str, day: date) -> Lesson:
        """What a policy learns on a day; the oracle is told what labels will be in the end."""
        kind = f"{policy == ORACLE} {recipe.late.reads} {recipe.late.hours} {recipe.late.needs_completeness}"
        if (day, kind) not in self.read:
            known = self.house.store.scan(samples(self.house.scenario)).drop("dt")
            since, start = self.house.day_start(day), self.house.day_start(self.days[0])
            rows = lesson_rows(self.house, day, recipe, known, since, start).collect()
            if policy == ORACLE:
                final = pl.col("impression_id").is_in(self.converts.implode())
                label = self.house.scenario.funnel[self.house.scenario.funnel.conversion].label
                rows = rows.with_columns(final.cast(pl.Int8).alias(label))
            self.read[day, kind] = rows
        return Lesson(
            scenario=self.house.scenario,
            recipe=recipe,
            day=day,
            rows=self.read[day, kind].lazy(),
            encoder=encoder_after(self.house, day),
        )

    def chain(self, recipe: Recipe, policy: str) -> Figures:
        """One policy at one rate, from the first day to the last."""
        line, spent, found = load(self.house, recipe, None), 0.0, []
        predicted = followed = 0.0
        for day in self.days:
            if day in self.scored:
                arrays, ids, conversions = self.scored[day]
                scores = pl.LazyFrame({"impression_id": ids, **score_arrays(line, arrays)})
                one = judged(scores, truth(self.house.logs, day)).rows_by_key("score", named=True)
                found.append({name: rows[0] for name, rows in one.items()})
                predicted += float(scores.select(pl.col("pctcvr").cast(pl.Float64).sum()).collect().item())
                followed += conversions
            lesson, begun = self.lesson(recipe, policy, day), time.process_time()
            if day != self.days[0]:
                gone = lesson.encoder.rows_given_after(day - timedelta(days=1))
                line.reset_rows(torch.from_numpy(gone), recipe.seed)
            learn(line, lesson)
            spent += time.process_time() - begun
        figures = {
            f"{score} {name}": fmean(day[score][name] for day in found)
            for score in ("pctr", "pcvr", "pctcvr")
            for name in ("regret", "ratio")
        }
        return {**figures, "pcoc": predicted / followed, "cpu_s": spent / len(self.days)}


@dataclass(frozen=True)
class Bench:
    """What was asked for, and the figures that are kept in its file."""

    asked: argparse.Namespace
    kept: dict[str, Figures]

    def measured(self, drift: Literal["slow", "fast"], seed: int, line: str, policy: str, rate: float) -> str:
        """The name of a chain whose figures are to be had."""
        a = self.asked
        return (
            f"{drift} {seed} {line} {policy} {rate:g} {a.days}-{a.scored} {a.impressions}-{a.ctr:g}-{a.cvr:g}"
        )

    def run(
        self, drift: Literal["slow", "fast"], seed: int, wanted: Sequence[tuple[str, str, float]]
    ) -> None:
        """Chains of one simulation: line, policy and rate of each; those that are kept are not run again."""
        a = self.asked
        todo = [one for one in wanted if self.measured(drift, seed, *one) not in self.kept]
        if not todo:
            return
        dials = {"ctr": a.ctr, "cvr": a.cvr, "seed": seed}
        settings = SimulationSettings.of_size(a.impressions, **dials).drifting(drift)
        folder = a.warehouse / f"{drift}-{seed}-{a.impressions}-{a.ctr:g}-{a.cvr:g}"
        world = World.of(folder, settings, a.days, a.scored)
        for line, policy, rate in todo:
            recipe = recipes.get("simulated", line)
            recipe = replace(at_rate(recipe, rate), late=POLICIES[policy], seed=recipe.seed + seed)
            name = self.measured(drift, seed, line, policy, rate)
            self.kept[name] = world.chain(recipe, policy)
            told = self.kept[name]
            print(f"{name}: {told['pctcvr regret']:.6f}, {told['cpu_s']:.2f} CPU s a day", flush=True)
            with a.results.open("a") as out:
                out.write(json.dumps([name, told]) + "\n")

    def rate(self, drift: Literal["slow", "fast"], line: str, policy: str) -> float:
        """The rate of the least regret on the simulation for that; the only one, if one is asked for."""
        if len(self.asked.rates) == 1:
            return float(self.asked.rates[0])
        return min(
            self.asked.rates,
            key=lambda rate: self.kept[self.measured(drift, TUNING, line, policy, rate)]["pctcvr regret"],
        )

    def table(self, drift: Literal["slow", "fast"], line: str) -> Iterator[str]:
        """Lines of the table of one drift and line."""
        found: dict[str, list[Figures]] = {}
        rates = {policy: self.rate(drift, line, policy) for policy in self.asked.policies}
        for policy, rate in rates.items():
            names = [self.measured(drift, seed, line, policy, rate) for seed in range(self.asked.seeds)]
            found[policy] = [self.kept[name] for name in names]
        worst, best = (fmean(f["pctcvr regret"] for f in found[name]) for name in ("naive", ORACLE))
        yield "| policy | rates | pCTCVR regret | closed | ratio | PCOC | pCVR regret | CPU s a day |"
        yield f"|{' --- |' * 8}"
        for policy, told in found.items():
            regret = [1e5 * f["pctcvr regret"] for f in told]
            spread = f" ± {stdev(regret):.1f}" if len(regret) > 1 else ""
            mean = {name: fmean(f[name] for f in told) for name in told[0]}
            yield (
                f"| {policy} | {rates[policy]:g} | {fmean(regret):.1f}{spread} "
                f"| {(worst - mean['pctcvr regret']) / (worst - best):.2f} | {mean['pctcvr ratio']:.3f} "
                f"| {mean['pcoc']:.3f} | {1e5 * mean['pcvr regret']:.0f} | {mean['cpu_s']:.2f} |"
            )


def main() -> None:
    """Choose the rates, run every seed, print a table per drift and line."""
    parser = argparse.ArgumentParser(description="Policies for late conversions against the truth.")
    parser.add_argument("--days", type=int, default=22, help="simulated days")
    parser.add_argument("--scored", type=int, default=7, help="days that figures are of, from the last")
    parser.add_argument("--impressions", type=int, default=10_000, help="a day")
    parser.add_argument("--ctr", type=float, default=0.3, help="dial of the simulation")
    parser.add_argument("--cvr", type=float, default=0.2, help="dial of the simulation")
    parser.add_argument("--drifts", nargs="+", default=["fast", "slow"], choices=["none", "fast", "slow"])
    parser.add_argument("--lines", nargs="+", default=["esmm", "ple"])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--warehouse", type=Path, default=Path("late-warehouse"))
    parser.add_argument("--results", type=Path, default=Path("late-results.jsonl"))
    asked = parser.parse_args()
    asked.policies = list(dict.fromkeys([ORACLE, "naive", *asked.policies]))
    torch.set_num_threads(1)
    lines = asked.results.read_text().splitlines() if asked.results.exists() else []
    bench = Bench(asked, dict(map(json.loads, lines)))
    pairs = [(line, policy) for line in asked.lines for policy in asked.policies]
    for drift in asked.drifts:
        if len(asked.rates) > 1:
            bench.run(drift, TUNING, [(*pair, rate) for pair in pairs for rate in asked.rates])
        for seed in range(asked.seeds):
            bench.run(drift, seed, [(*pair, bench.rate(drift, *pair)) for pair in pairs])
    print(
        f"\n{os.cpu_count()} cores, one thread; Python {platform.python_version()}, "
        f"torch {torch.__version__}\n{asked.days} days of {asked.impressions:,} impressions, the last "
        f"{asked.scored} scored, {asked.seeds} seeds; ctr {asked.ctr:g}, cvr {asked.cvr:g}"
    )
    for drift in asked.drifts:
        for line in asked.lines:
            print(f"\n{drift} drift, line {line}\n", *bench.table(drift, line), sep="\n")


if __name__ == "__main__":
    main()
