"""Stage "sample": the entire-space samples of the day, and again those of days whose labels were open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain

import polars as pl

from features.calendar import days_between
from features.completeness import has_curves
from features.declared import once_each
from features.errors import MissingStage
from features.fingerprint import fingerprint
from features.labels import Attribution
from features.on_demand import ON_DEMAND
from features.samples import featured, with_labels
from features.scenario import Scenario, Source
from features.schemas import COMPLETENESS, events, samples
from features.staging import Staged
from features.versions import on_demand_version
from flows.house import House
from flows.stages import completeness
from flows.stages.at_impressions import sources_of, with_values
from flows.stages.attributed import ORPHANS, attributed, labels_of, orphans
from flows.stages.completeness import curves_of, told_until
from flows.stages.exposures import delivering, exposures
from flows.stages.known import known
from flows.stages.promise import hold
from flows.stages.quarantine import kept
from flows.stages.record import StageRecord
from flows.stages.retold import retold, standing
from flows.stages.settle import Built, Plan, code, finished, live, now, repeated, stage
from flows.stages.view import snapshot_of

STAGE = "sample"
_CODE = (
    "features/labels.py",
    "features/owners.py",
    "features/sieve.py",
    "features/spread.py",
    "features/attribution_shards.py",
    "features/reversals.py",
    "features/completeness.py",
    "features/at_impressions.py",
    "features/impression_shards.py",
    "features/histories.py",
    "features/point_in_time.py",
    "features/as_of_ready.py",
    "features/as_of_index.py",
    "features/key_lookup.py",
    "features/instants.py",
    "features/windows.py",
    "features/seen.py",
    "features/spans.py",
    "features/exact_sums.py",
    "features/partials.py",
    "features/aggregates.py",
    "features/samples.py",
    "features/on_demand.py",
    "features/funnel.py",
    "flows/stages/at_impressions.py",
    "flows/stages/attributed.py",
    "flows/stages/beyond.py",
    "flows/stages/exposures.py",
    "flows/stages/retold.py",
    "flows/stages/sample.py",
)


@dataclass(frozen=True, kw_only=True)
class SamplePlan(Plan):
    """Samples of one day of exposure, with the labels that were known at the end of ``as_of``."""

    as_of: date


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Samples of the day and of the days before it that can still change; one commit for all.

    Raises:
        MissingStage: the day's events have not been read, or a day's own snapshot of a view is not there.
        BrokenPromise: a check of the samples found offenders; the old samples stand.
    """
    del lines  # the same samples serve every line
    curves = completeness.run(house, day)
    plans = _plans(house, day)
    done = {plan.day: found for plan in plans if (found := live(house.store, plan)) is not None}
    todo = [plan for plan in plans if plan.day not in done]
    records = [repeated(plan, done[plan.day]) for plan in plans if plan.day in done]
    if not todo:
        before = [kept(house, ORPHANS, objective.name, day) for objective in house.scenario.funnel]
        return (*chain.from_iterable(before), *curves, *records)
    started, clock = now(), time.perf_counter()
    orphaned: tuple[StageRecord, ...] = ()
    done_now: dict[date, Staged] = {}
    # The run's own instant first: orphans are kept before any sample is written.
    for as_of in sorted({day, *(plan.as_of for plan in todo)}, key=lambda known: known != day):
        with attributed(house, as_of) as attribution:
            if as_of == day:
                orphaned = orphans(house, day, attribution, dict(todo[-1].inputs))
            for plan in todo:
                if plan.as_of == as_of:
                    done_now[plan.day] = _stage(house, plan, attribution)
    staged = [done_now[plan.day] for plan in todo]
    hold(house, samples(house.scenario), staged)
    committed = house.store.commit(staged)
    seconds = (time.perf_counter() - clock) / len(todo)
    records += [finished(plan, g, started, seconds) for plan, g in zip(todo, committed, strict=True)]
    return (*orphaned, *curves, *records)


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the samples of the day, or of a day that it restates, are not what they should be."""
    del lines
    if completeness.pending(house, day):
        return True
    return any(live(house.store, plan) is None for plan in _plans(house, day))


def plan_sample(house: House, exposed: date, as_of: date) -> SamplePlan:
    """What the samples of ``exposed`` depend on, with labels as of the end of ``as_of``.

    After ``restated_days`` nothing can change any more, so a later ``as_of`` means that day.
    """
    scenario = house.scenario
    as_of = min(as_of, exposed + timedelta(days=scenario.restated_days))
    inputs: dict[str, str] = {}
    for source in _followed(house):
        table = events(source)
        for arrived in days_between(exposed - timedelta(days=scenario.contested_days), as_of):
            generation = house.store.generation(table, arrived)
            if generation is not None:
                inputs[f"{table.name} {arrived}"] = generation.key
            elif arrived == exposed:
                raise MissingStage(f"{table.name} of {arrived}", "not there", f"run the day {arrived} first")
    for view in scenario.views:
        if view.freshness == "event":
            inputs |= {name: g.key for name, g in sources_of(house, view, exposed).items()}
        else:
            snapshot = snapshot_of(house, view, exposed)
            inputs[view.table] = "none" if snapshot is None else snapshot.key
    if _takes_curves(house, exposed, as_of):
        curves = curves_of(house, as_of)
        inputs[COMPLETENESS.name] = "none" if curves is None else curves.key
    inputs["definition"] = _definition(scenario)
    if scenario.on_demand:
        inputs[ON_DEMAND] = on_demand_version(scenario)
    inputs["code"] = code(*_CODE)
    return SamplePlan(stage=STAGE, table=samples(scenario), day=exposed, inputs=inputs, as_of=as_of)


@once_each
def _definition(scenario: Scenario) -> str:
    """What is declared of samples beside their sources, as 16 hex digits."""
    return fingerprint(
        [
            list(scenario.funnel),
            scenario.lateness,
            scenario.skew,
            [f.definition for f in scenario.features],
            [[v.name, v.source, v.max_age_days] for v in scenario.views if v.freshness == "event"],
        ]
    )


def _plans(house: House, day: date) -> list[SamplePlan]:
    """The day and the earlier days with samples that its arrivals can still change, oldest first.

    A day whose live samples know more than this run does is planned with all they know: running a past
    day again never takes a later day's labels back.
    """
    table = samples(house.scenario)
    first = day - timedelta(days=house.scenario.restated_days)
    known = set(house.store.days(table)) | {day}
    plans = []
    for exposed in days_between(first, day):
        if exposed not in known:
            continue
        there = house.store.generation(table, exposed)
        told = day if there is None else max(day, told_until(there))
        plans.append(plan_sample(house, exposed, told))
    return plans


def _takes_curves(house: House, exposed: date, as_of: date) -> bool:
    """Whether some label of the day's samples is still open; where none is, all are complete."""
    restated = timedelta(days=house.scenario.restated_days)
    return has_curves(house.scenario) and as_of < exposed + restated


def _followed(house: House) -> tuple[Source, ...]:
    return (house.scenario.impressions, *house.scenario.events)


def _stage(house: House, plan: SamplePlan, attribution: Attribution) -> Staged:
    """Write the planned samples under their final names, not yet live.

    What was known of entities and of the impressions that were followed by something is in memory; of the
    impressions themselves, a block at a time.
    """
    scenario, store = house.scenario, house.store
    curves = None
    if _takes_curves(house, plan.day, plan.as_of) and curves_of(house, plan.as_of) is not None:
        curves = store.scan(COMPLETENESS, [plan.as_of]).drop("dt").collect().lazy()
    impressions = store.scan(events(scenario.impressions), delivering(house, plan.day, plan.as_of))
    rows_in = impressions.filter(pl.col("day") == plan.day).select(pl.len()).collect(engine="streaming")
    labels = labels_of(house, plan.day, attribution).sort("exposed_at")
    watermark = house.watermark(plan.as_of)

    def rows() -> Iterator[pl.DataFrame]:
        for block in _known(house, plan):
            near = _labels(labels, block)
            yield with_labels(
                block.lazy(), near, scenario, watermark=watermark, completeness=curves
            ).collect()

    built = Built(rows=rows(), rows_in=int(rows_in.item()), notes={"as_of": plan.as_of.isoformat()})
    return stage(store, plan, built)


def _known(house: House, plan: SamplePlan) -> Iterator[pl.DataFrame]:
    """Keys and features of the planned samples, in blocks ordered by exposure."""
    live_ones = standing(house, plan.day, plan.as_of, plan.inputs)
    if live_ones is None:
        return _found(house, plan, after=None)
    return retold(house, plan.day, _found(house, plan, after=told_until(live_ones)))


def _found(house: House, plan: SamplePlan, *, after: date | None) -> Iterator[pl.DataFrame]:
    """The same of the impressions that arrived ``after`` a day, from the views; ``None`` means of all."""
    if not delivering(house, plan.day, plan.as_of, after=after):
        return
    scenario = house.scenario
    snapshots = _snapshots(house, plan)
    blocks = exposures(house, plan.day, plan.as_of, after=after)
    with with_values(house, plan.day, blocks) as told:
        for block, values in told:
            own = {name: found.lazy() for name, found in values.items()}
            yield featured(block.lazy(), scenario, snapshots, own).collect()


def _snapshots(house: House, plan: SamplePlan) -> dict[str, pl.LazyFrame | None]:
    """By view that is not fresh by event, what was valid at the start of the day; in memory."""
    snapshots: dict[str, pl.LazyFrame | None] = {}
    for view in house.scenario.views:
        if view.freshness == "event":
            continue
        if snapshot_of(house, view, plan.day) is None:
            step = f"run the stage view of {plan.as_of} or of {plan.day} first"
            raise MissingStage(f"{view.table} of {plan.day}", "not there", step)
        snapshots[view.name] = known(house, view, plan.day).collect(engine="streaming").lazy()
    return snapshots


def _labels(labels: pl.DataFrame, block: pl.DataFrame) -> pl.LazyFrame:
    """Those of a block's impressions; both are ordered by exposure, so no block looks through all of them."""
    exposed, at = block["exposed_at"], labels["exposed_at"]
    first, end = at.search_sorted(exposed[0], "left"), at.search_sorted(exposed[-1], "right")
    near = labels[first:end].lazy()
    return near.join(block.lazy().select("impression_id"), on="impression_id", how="semi")
