"""Labels that may still change: what a line reads of them, and which version has not seen them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import cast

import polars as pl

from features.batches import fresh_rows
from features.bookkeeping import MODELS
from features.calendar import day_of
from features.fingerprint import canonical
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
    house: House, day: date, recipe: Recipe, samples: pl.LazyFrame, since: datetime, start: datetime
) -> pl.LazyFrame:
    """What a line learns on a day: rows with ``trains_*`` masks, and how far open labels could be known.

    Args:
        house: where.
        day: logical date.
        recipe: of the line.
        samples: of all days whose labels may be read now.
        since: the parent's watermark.
        start: since when the line reads by its policy; see ``begun``.
    """
    until, policy = house.watermark(day), recipe.late
    if not reads_open(recipe):
        return fresh_rows(samples, house.scenario, since, until)
    curves = None
    if policy.needs_completeness and curves_of(house, day) is not None:
        curves = house.store.scan(COMPLETENESS, [day]).drop("dt").collect().lazy()
    asked = Readings(
        reads=policy.reads,
        begins=_begins(house, day, recipe, since, start),
        hours=policy.hours,
        completeness=policy.needs_completeness,
    )
    return open_rows(samples, house.scenario, since, until, asked, curves)


def told_open(house: House, recipe: Recipe, rows: pl.LazyFrame) -> dict[str, dict[str, int]]:
    """By late objective: labels read ``open``, those read ``again``, the ``positives`` and the ``clipped``.

    The last are positives whose F lies below the floor of the policy: they weigh less than they should.
    Nothing of a line that waits.
    """
    if not reads_open(recipe):
        return {}
    found = {}
    for o in late(house.scenario.funnel):
        read = rows.filter(pl.col(f"trains_{o.name}") & pl.col(f"open_{o.name}"))
        positive = pl.col(o.label) == 1
        below = pl.col(f"complete_{o.name}") < getattr(recipe.late, "floor", 0.0)
        counts = read.select(
            open=pl.len(),
            again=pl.col(f"again_{o.name}").sum(),
            positives=positive.sum(),
            clipped=(positive & below).sum(),
        )
        (row,) = counts.collect(engine="streaming").rows(named=True)
        found[o.name] = {name: int(count) for name, count in row.items()}
    return found


def late_key(house: House, day: date, recipe: Recipe, since: datetime) -> Mapping[str, str]:
    """What a version depends on beside its samples: since when it reads early, and F where its policy asks.

    Args:
        house: where.
        day: logical date.
        recipe: of the line.
        since: the parent's watermark.
    """
    if not reads_open(recipe):
        return {}
    begins = _begins(house, day, recipe, since, begun(house, day, recipe, since))
    told = {f"{name} read early": f"since {at.isoformat()}" for name, at in sorted(begins.items())}
    if recipe.late.needs_completeness:
        curves = curves_of(house, day)
        told[COMPLETENESS.name] = "none" if curves is None else curves.key
    return told


def begun(house: House, day: date, recipe: Recipe, since: datetime) -> datetime:
    """Since when a line reads by its policy: labels that it would have read before were never read early.

    Args:
        house: where.
        day: logical date; later versions are not looked at.
        recipe: of the line.
        since: the parent's watermark, with which it begins where the parent read otherwise.
    """
    if not reads_open(recipe):
        return since
    policy = json.loads(canonical(recipe.settings()))["late"]
    # what was read first before that is final
    days = [d for d in house.store.days(MODELS, line=recipe.name) if unseen_before(house, since) <= d < day]
    rows = house.store.scan(MODELS, days, line=recipe.name).select("dt", "trained_since", "recipe")
    for _, start, settings in rows.sort("dt", descending=True).collect().rows():
        if json.loads(settings).get("late") != policy:
            break
        since = start
    return since


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


def _begins(house: House, day: date, recipe: Recipe, since: datetime, start: datetime) -> dict[str, datetime]:
    """By late objective, since when it is read early: never before ``start``, nor before there is F."""
    names = [o.name for o in late(house.scenario.funnel)]
    if not recipe.late.needs_completeness:
        return dict.fromkeys(names, start)
    days = [known for known in house.store.days(COMPLETENESS) if unseen_before(house, since) <= known <= day]
    if not days:
        return {}
    first = house.store.scan(COMPLETENESS, days).group_by("objective").agg(pl.col("dt").min()).collect()
    return {name: max(start, house.day_start(dt)) for name, dt in first.iter_rows() if name in names}
