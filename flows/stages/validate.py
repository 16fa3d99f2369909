"""Stage "validate": what is odd about the day's samples, though nothing in them is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import cache

import polars as pl

from features.errors import MissingStage
from features.generation import Generation
from features.schemas import events, samples
from features.tables import Table
from features.validation.contract import Breach, breaches
from features.validation.drift import DRIFT, LARGE, SOME, drift
from features.validation.leakage import CEILING, separations
from features.validation.tables import contract
from features.validation.thinning import AT_MOST, thin
from flows.house import House
from flows.stages import foretold, quality
from flows.stages.promise import blocks
from flows.stages.record import StageRecord
from flows.stages.sample import plan_sample
from flows.stages.settle import Built, Plan, code, live, settle

STAGE = "validate"
#: Days before the day that are its reference; with fewer, shifts stand in the table and nothing is warned of.
TRAILING = 7
#: How many names a warning tells; the table has all.
_TOLD = 5
_CODE = ("features/validation", "flows/stages/validate.py")
log = logging.getLogger("funnelcast.validate")


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Compare a day's samples with those of the days before, features with labels, F with what came of it.

    What is wrong was refused before it was committed; here a day is only stopped by a figure outside of a
    band that blocks. The warnings stand in the notes of the records, so in the ledger too, and are logged
    when they are found.

    Raises:
        MissingStage: the day has no samples.
        BlockedDay: the day, or one before it, is not to be learned.
    """
    del lines  # the same samples serve every line
    part = cache(lambda exposed: _part(house, samples(house.scenario), [exposed]))
    shifts = settle(house.store, plan_drift(house, day), lambda: _judge(house, day, part(day)))
    figures = quality.judge(house, day, part)
    for record in (shifts, figures):
        warnings = record.notes["warnings"]
        assert isinstance(warnings, list)  # noqa: S101 - both write them
        for warning in warnings if not record.repeated else ():
            log.warning("%s: %s", day, warning)
    told = foretold.run(house, day)
    quality.refuse_blocked(house, day)
    return (shifts, figures, *told)


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the day was not compared, or with other samples; or it is blocked."""
    del lines
    plans = (plan_drift(house, day), quality.plan_quality(house, day))
    unknown = any(live(house.store, plan) is None for plan in plans) or foretold.pending(house, day)
    return unknown or quality.is_blocked(house, day)


def plan_drift(house: House, day: date) -> Plan:
    """What the comparison depends on: the samples of the day and of the days before it."""
    inputs = {
        f"samples {exposed}": plan_sample(house, exposed, day).key
        for exposed in (*_reference(house, day), day)
    }
    return Plan(stage=STAGE, table=DRIFT, day=day, inputs={**inputs, "code": code(*_CODE)})


def _judge(house: House, day: date, ours: pl.DataFrame) -> Built:
    scenario, table = house.scenario, samples(house.scenario)
    before = _reference(house, day)
    theirs = _part(house, table, before)
    rows = drift(scenario.features, scenario.funnel, ours, theirs, len(before))
    alone = [told for told in separations(scenario.features, scenario.funnel, ours) if told.auc > CEILING]
    odd = _odd(house, day)
    # While the first windows fill, every count shifts every day; a warning that is always there is not read.
    levels = ((LARGE, float("inf")), (SOME, LARGE)) if len(before) == TRAILING else ()
    shifts = {level: _shifts(rows, *level) for level in levels}
    warnings = [
        *(f"drift: PSI from {low:g} for {_list(names)}" for (low, _), names in shifts.items() if names),
        *(
            f"leak? {told.feature} alone ranks {told.objective} with AUC {told.auc:.3f} "
            f"({told.positives} of {told.rows} rows positive)"
            for told in alone
        ),
        *(f"{b.table}: {b.rows} rows break the rule that {b.says}; first: {b.example}" for b in odd),
    ]
    notes: dict[str, object] = {"warnings": warnings, "reference_days": [str(one) for one in before]}
    return Built(rows=rows, notes=notes)


def _reference(house: House, day: date) -> list[date]:
    """The days before it that have samples, oldest first."""
    known = house.store.days(samples(house.scenario))
    return [earlier for earlier in known if day - timedelta(days=TRAILING) <= earlier < day]


def _part(house: House, table: Table, days: Sequence[date]) -> pl.DataFrame:
    """Rows of these days, every n-th of each, in all about as many as of one day."""
    scenario = house.scenario
    needed = {
        *(feature.name for feature in scenario.features),
        *(column for o in scenario.funnel for column in (o.label, o.final, o.space)),
    }
    columns = [name for name in table.schema.names if name in needed]
    parts = [
        thin(
            house.store.scan(table, [one]).select(columns),
            _live(house, table, one).rows,
            AT_MOST // len(days),
        )
        for one in days
    ]
    if not parts:
        return house.store.scan(table, []).select(columns).collect()
    return pl.concat(pl.collect_all(parts, engine="streaming"))


def _odd(house: House, day: date) -> Iterable[Breach]:
    """Rules of level ``warn`` that the day's events and samples break."""
    scenario = house.scenario
    logs = (scenario.impressions, *scenario.events)
    for table in (*(events(source) for source in logs), samples(scenario)):
        told = contract(table, scenario)
        if "warn" in told.levels.values():
            yield from breaches(told, blocks(house.store.scan(table, [day])), ("warn",))


def _live(house: House, table: Table, day: date) -> Generation:
    found = house.store.generation(table, day)
    if found is None:
        raise MissingStage(f"{table.name} of {day}", "not there", f"run the stage sample of {day} first")
    return found


def _shifts(rows: pl.DataFrame, low: float, high: float) -> list[str]:
    """Names with a PSI from ``low`` to below ``high`` and the index, greatest first."""
    found = rows.filter((pl.col("psi") >= low) & (pl.col("psi") < high)).sort("psi", descending=True)
    named = found.select("kind", "name", "psi").rows()
    return [f"{name if kind == 'feature' else f'label {name}'} {index:.2f}" for kind, name, index in named]


def _list(names: Sequence[str]) -> str:
    more = len(names) - _TOLD
    return ", ".join(names[:_TOLD]) + (f" and {more} more" if more > 0 else "")
