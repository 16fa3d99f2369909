"""Labels that may still change: what a line reads of them, and which version has not seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import cast

import polars as pl

from features.batches import fresh_rows
from features.calendar import day_of
from features.readings import Readings, late, open_rows
from features.schemas import COMPLETENESS
from flows.house import House
from flows.recipes import Recipe
from flows.stages.calibrate import Calibrator
from flows.stages.completeness import curves_of
from flows.stages.evaluate import Scored, evaluate, score_rows
from flows.stages.settle import Built
from flows.stages.version import Version, load, parent_of


def reads_open(recipe: Recipe) -> bool:
    """Whether a line reads labels that may still change."""
    return recipe.late.reads != ("final",)


def lesson_rows(
    house: House, day: date, recipe: Recipe, samples: pl.LazyFrame, since: datetime
) -> pl.LazyFrame:
    """What a line learns on a day: rows with ``trains_*`` masks, and how far open labels could be known.

    Args:
        house: where.
        day: logical date.
        recipe: of the line.
        samples: of all days whose labels may be read now.
        since: the parent's watermark.
    """
    until = house.watermark(day)
    if not reads_open(recipe):
        return fresh_rows(samples, house.scenario, since, until)
    curves = None
    if recipe.late.needs_completeness and curves_of(house, day) is not None:
        curves = house.store.scan(COMPLETENESS, [day]).drop("dt").collect().lazy()
    return open_rows(samples, house.scenario, since, until, _readings(house, day, recipe), curves)


def completeness_key(house: House, day: date, recipe: Recipe) -> Mapping[str, str]:
    """What a version depends on beside its samples: F as of the day, where its policy asks."""
    if not recipe.late.needs_completeness:
        return {}
    curves = curves_of(house, day)
    begins = {name: at.isoformat() for name, at in sorted(_begins(house, day).items())}
    return {
        COMPLETENESS.name: "none" if curves is None else curves.key,
        **{f"{COMPLETENESS.name} of {name}": f"since {at}" for name, at in begins.items()},
    }


def unseen(house: House, recipe: Recipe, since: datetime) -> Version | None:
    """The newest version that had read no label of a late objective that becomes final after ``since``."""
    return parent_of(house, recipe.name, unseen_before(house, since))


def unseen_before(house: House, since: datetime) -> date:
    """Versions of days before this one had read no late label that becomes final after ``since``.

    It follows from the clock: a label is read first no earlier than its own windows before it is final.
    """
    funnel = house.scenario.funnel
    own = [funnel.closes_after(o.name) - funnel.closes_after(str(o.given)) for o in late(funnel)]
    first = since - max(own, default=timedelta(0))
    return day_of(first, house.scenario.zone)


def late_objectives(house: House, recipe: Recipe) -> tuple[str, ...]:
    """Objectives of which a line reads labels that may still change."""
    return tuple(o.name for o in late(house.scenario.funnel)) if reads_open(recipe) else ()


def judge(house: House, recipe: Recipe, rows: pl.LazyFrame, since: datetime) -> Scored:
    """Rows of a day as a version scores them that had read none of their open labels.

    Args:
        house: where.
        recipe: of the line.
        rows: as ``features.batches.fresh_rows`` gives them.
        since: the parent's watermark.
    """
    version = unseen(house, recipe, since)
    if version is not None and not version.folder.is_dir():
        version = None  # its weights were cleared away; nobody else has seen none of the rows
    return score_rows(house, load(house, recipe, version), version, rows)


def with_unseen(
    house: House, own: Built, names: Sequence[str], scored: Scored, calibrator: Calibrator | None
) -> Built:
    """Metrics of a day, those of late objectives by a version that had read none of the rows.

    Args:
        house: where.
        own: metrics of the parent; it may have read open labels.
        names: as of ``late_objectives``.
        scored: as of ``judge``.
        calibrator: as of ``evaluate``.
    """
    kept = cast(pl.DataFrame, own.rows).filter(~pl.col("objective").is_in(names))
    found = evaluate(house, scored, calibrator)
    judged = cast(pl.DataFrame, found.rows).filter(pl.col("objective").is_in(names))
    told = {"judged": ", ".join(names), "by": "none" if scored.version is None else scored.version.version}
    return replace(own, rows=pl.concat([kept, judged]), notes={**own.notes, "late": told})


def _readings(house: House, day: date, recipe: Recipe) -> Readings:
    policy = recipe.late
    asks = policy.needs_completeness
    begins = _begins(house, day) if asks else {}
    return Readings(reads=policy.reads, hours=policy.hours, completeness=asks, begins=begins)


def _begins(house: House, day: date) -> dict[str, datetime]:
    """By objective, the beginning of the first day of which there is F; of days up to ``day``."""
    days = [known for known in house.store.days(COMPLETENESS) if known <= day]
    if not days:
        return {}
    first = house.store.scan(COMPLETENESS, days).group_by("objective").agg(pl.col("dt").min()).collect()
    return {name: house.day_start(begun) for name, begun in first.iter_rows()}
