"""The table "completeness_daily", a part of stage "validate": did young labels keep what F promised?"""

from __future__ import annotations

import logging
from datetime import date, datetime, timedelta
from typing import cast

import polars as pl

from features.completeness import has_curves, open_for
from features.funnel import Objective
from features.schemas import COMPLETENESS, samples
from features.validation.foretold import AGES, FORETOLD, TOLERANCE, broken, held
from flows.house import House
from flows.stages.completeness import curves_of
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.sample import plan_sample
from flows.stages.settle import Built, Plan, code, live

STAGE = "validate"
#: How many names a warning tells; the table has all.
_TOLD = 5
_CODE = ("features/validation/foretold.py", "features/completeness.py", "flows/stages/foretold.py")
_NOTHING = pl.DataFrame(FORETOLD.schema.empty_table())
log = logging.getLogger("funnelcast.validate")


def run(house: House, day: date) -> tuple[StageRecord, ...]:
    """Hold what F promised of the day that became final; none where it promised nothing."""
    plan = plan_foretold(house, day)
    if plan is None:
        return ()
    record = keep(house, plan, lambda: _judge(house, day))
    if not record.repeated:
        for warning in cast(list[str], record.notes["warnings"]):
            log.warning("%s: %s", day, warning)
    return (record,)


def pending(house: House, day: date) -> bool:
    """Whether the day that became final was not held to F, or to another."""
    plan = plan_foretold(house, day)
    return plan is not None and live(house.store, plan) is None


def plan_foretold(house: House, day: date) -> Plan | None:
    """What the comparison depends on: samples that are final now, and F as it was while they were young."""
    exposed = _exposed(house, day)
    if not has_curves(house.scenario) or exposed not in house.store.days(samples(house.scenario)):
        return None
    young = {age for o in house.scenario.funnel for age in AGES if _young(house, exposed, age, o)}
    days = [_as_of(exposed, age) for age in sorted(young)]
    curves = {as_of: found for as_of in days if (found := curves_of(house, as_of)) is not None}
    if not curves:
        return None
    inputs = {
        f"samples {exposed}": plan_sample(house, exposed, day).key,
        **{f"{COMPLETENESS.name} {as_of}": found.key for as_of, found in curves.items()},
        "code": code(*_CODE),
    }
    return Plan(stage=STAGE, table=FORETOLD, day=day, inputs=inputs)


def _judge(house: House, day: date) -> Built:
    scenario, exposed = house.scenario, _exposed(house, day)
    known = house.store.scan(samples(scenario), [exposed])
    parts = []
    for o in scenario.funnel:
        happened = pl.col(o.final) & (pl.col(o.label) == 1)
        columns = ["exposed_at", o.known, *([] if o.segment is None else [o.segment])]
        if curves := _curves(house, exposed, o):
            positives = known.filter(happened).select(columns).collect(engine="streaming").lazy()
            found = held(positives, scenario, o, curves)
            named = found.with_columns(objective=pl.lit(o.name), exposed_on=pl.lit(exposed))
            parts.append(named.select(FORETOLD.schema.names))
    rows = pl.concat([_NOTHING, *parts]).sort(FORETOLD.sort_by, nulls_last=False)
    off = broken(rows)
    told = [
        f"{objective}{'' if segment is None else f' of {segment}'} at {age} d {ratio:.2f}"
        for objective, segment, age, ratio in off.select("objective", "segment", "age_days", "ratio").rows()
    ]
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    warning = (
        f"completeness of {exposed} was off by more than {TOLERANCE:.0%}, seen over foretold: "
        f"{', '.join(told[:_TOLD])}{more}"
    )
    return Built(rows=rows, notes={"exposed_on": str(exposed), "warnings": [warning] if told else []})


def _curves(house: House, exposed: date, o: Objective) -> dict[int, tuple[datetime, pl.LazyFrame]]:
    """By age, when the day had it and F as of then; ages at which the label was final are left out."""
    found = {}
    for age in AGES:
        as_of = _as_of(exposed, age)
        if _young(house, exposed, age, o) and curves_of(house, as_of) is not None:
            known = house.store.scan(COMPLETENESS, [as_of]).drop("dt").collect().lazy()
            found[age] = (house.watermark(as_of), known)
    return found


def _young(house: House, exposed: date, age: int, o: Objective) -> bool:
    """Whether labels of the day could still change at that age."""
    total = house.watermark(_as_of(exposed, age)) - house.day_start(exposed)
    return total < open_for(house.scenario, o)


def _exposed(house: House, day: date) -> date:
    """The day whose labels became final with the run of ``day``."""
    return day - timedelta(days=house.scenario.restated_days)


def _as_of(exposed: date, age: int) -> date:
    return exposed + timedelta(days=age - 1)
