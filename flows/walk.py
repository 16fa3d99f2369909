"""A line's chain walked again with other settings, each day scored before it is learned; nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import cast

import polars as pl
import torch
from torch import Tensor

from features.batches import fresh_rows
from features.bookkeeping import ID_MAPS
from features.errors import UsageError
from features.readings import late
from features.sampling.base import Propensity
from features.schemas import samples
from flows.house import House
from flows.recipes import Recipe
from flows.stages.bad_steps import refusing_bad_steps
from flows.stages.begin import begin, giver_of
from flows.stages.encode import encoder_of
from flows.stages.evaluate import evaluate, score_rows
from flows.stages.late import lesson_rows, reads_open, unseen_before
from flows.stages.passes import Lesson, learn
from flows.stages.propensity import propensity_by
from flows.stages.train import replayed_rows, sample_days
from flows.stages.unlearned import taught, untaught
from flows.stages.version import Version, load
from models.line import Line

#: What is told of a day.
METRICS = ("auc", "log_loss", "rmse", "pcoc")


@dataclass(frozen=True)
class Scored:
    """One metric of one day, over all impressions."""

    day: date
    objective: str
    metric: str
    value: float | None
    rows: int
    positives: int


def sampled_days(house: House, start: date | None, end: date | None) -> tuple[date, ...]:
    """The days of a range whose samples and id maps are there, oldest first.

    Raises:
        UsageError: fewer than two; the first is learned and never scored.
    """
    there = set(house.store.days(samples(house.scenario))) & set(house.store.days(ID_MAPS))
    days = tuple(day for day in sorted(there) if (start or day) <= day <= (end or day))
    if len(days) < 2:
        raise UsageError(
            "days", f"{len(days)} with samples and id maps, two are needed", "funnelcast backfill more days"
        )
    return days


def walked(house: House, recipe: Recipe, days: Sequence[date]) -> Iterator[Scored]:
    """Learn days one after the other, from a line's beginning; each but the first is scored before.

    What a day teaches is what the stage "train" teaches, but nothing is written: versions, metrics and
    scores stay what they are. A line that reads late labels early is kept in memory as it was after each day
    of the longest window, since no younger one may judge them.

    Args:
        house: where the samples are.
        recipe: of the line; it need not be one of the scenario's.
        days: oldest first, with samples and id maps.

    Raises:
        NotFinite: a loss or gradient was not finite, as at too large a rate.
        BadWarehouse: id maps of a day are damaged.
    """
    past: dict[date, tuple[Version, Mapping[str, Tensor]]] = {}
    start = house.day_start(days[0])
    line, before = begin(house, recipe, giver_of(house, recipe, days[0])), None
    for day in days:
        since = house.day_start(day) if before is None else before.watermark
        known = house.store.scan(samples(house.scenario), sample_days(house, day, since)).drop("dt")
        rows = fresh_rows(known, house.scenario, since, house.watermark(day))
        if before is not None:
            yield from _scored(house, line, before, rows, day, lambda name: not _reads(house, recipe, name))
        if (judge := _unread(past, unseen_before(house, since))) is not None:
            version, state = past[judge]
            unread = load(house, recipe, None)
            unread.restore(state)
            yield from _scored(house, unread, version, rows, day, partial(_reads, house, recipe))
        here = _version(house, recipe, day)
        encoder = encoder_of(house, day, here.id_maps_key)
        if (base := before or giver_of(house, recipe, day)) is not None:
            line.reset_rows(torch.from_numpy(encoder.rows_given_after(base.day)), recipe.seed)
        lesson = Lesson(
            scenario=house.scenario,
            recipe=recipe,
            day=day,
            rows=taught(house, lesson_rows(house, day, recipe, known, since, start), untaught(house, day)),
            encoder=encoder,
            propensity=_propensity(house, recipe, line, before),
            replayed=replayed_rows(house, day, recipe, before),
        )
        with refusing_bad_steps(f"line {recipe.name} of {day}", line.steps):
            learn(line, lesson)
        before = here
        if reads_open(recipe):
            past[day] = here, {name: tensor.clone() for name, tensor in line.state().items()}


def _scored(
    house: House, line: Line, version: Version, rows: pl.LazyFrame, day: date, of: Callable[[str], bool]
) -> Iterator[Scored]:
    """Metrics over all impressions of the objectives that ``of`` names."""
    told = cast(pl.DataFrame, evaluate(house, score_rows(house, line, version, rows)).rows)
    shown = told.filter(pl.col("metric").is_in(METRICS), slice="all", space="impressions")
    for objective, *figures in shown.select("objective", "metric", "value", "rows", "positives").rows():
        if of(objective):
            yield Scored(day, objective, *figures)


def _unread(past: dict[date, tuple[Version, Mapping[str, Tensor]]], until: date) -> date | None:
    """The newest day before ``until`` after which the line was kept; older ones are forgotten."""
    able = [day for day in past if day < until]
    for older in able[:-1]:
        del past[older]
    return able[-1] if able else None


def _reads(house: House, recipe: Recipe, objective: str) -> bool:
    """Whether the line has read some labels of an objective before they are final."""
    return reads_open(recipe) and objective in {o.name for o in late(house.scenario.funnel)}


def _version(house: House, recipe: Recipe, day: date) -> Version:
    """What the walk has become after a day; it has no checkpoint."""
    found = house.store.generation(ID_MAPS, day)
    assert found is not None  # noqa: S101 - only such days are walked
    return Version(
        day=day,
        line=recipe.name,
        version="none",
        watermark=house.watermark(day),
        id_maps_key=found.key,
        features=None,
        folder=Path(),
    )


def _propensity(house: House, recipe: Recipe, line: Line, before: Version | None) -> Propensity | None:
    """The line as it stands now, since the one that learns changes with every batch."""
    if before is None or not recipe.sampling.needs_propensity:
        return None
    still = load(house, recipe, None)
    still.restore(line.state())
    return propensity_by(house, still, before)
