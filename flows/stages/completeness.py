"""The table "completeness", a part of stage "sample": how much of what happens is known at which age."""

from __future__ import annotations

from datetime import date, timedelta

from features.calendar import days_between
from features.completeness import estimate, has_curves, needed
from features.fingerprint import fingerprint
from features.generation import Generation
from features.schemas import COMPLETENESS, samples
from flows.house import House
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan, code, live

STAGE = "sample"
#: How many days of final labels make the curves of a day.
HISTORY_DAYS = 7
_CODE = ("features/completeness.py", "flows/stages/completeness.py")


def run(house: House, day: date) -> tuple[StageRecord, ...]:
    """The curves that labels as of the end of ``day`` take; none where there is no history."""
    plan = plan_completeness(house, day)
    if plan is None:
        return ()

    def build() -> Built:
        days = list(_mature(house, day))
        rows = house.store.scan(samples(house.scenario), days).select(needed(house.scenario.funnel))
        return Built(rows=estimate(rows, house.scenario), notes={"days": len(days)})

    return (keep(house, plan, build),)


def pending(house: House, day: date) -> bool:
    """Whether the curves of the day are not what its history asks for."""
    plan = plan_completeness(house, day)
    return plan is not None and live(house.store, plan) is None


def plan_completeness(house: House, day: date) -> Plan | None:
    """What the curves of a day depend on; ``None`` where all is complete at once or nothing is final."""
    scenario = house.scenario
    history = _mature(house, day) if has_curves(scenario) else {}
    if not history:
        return None
    inputs = {f"{samples(scenario).name} {exposed}": g.key for exposed, g in history.items()}
    inputs["definition"] = fingerprint([list(scenario.funnel), scenario.lateness])
    inputs["code"] = code(*_CODE)
    return Plan(stage=STAGE, table=COMPLETENESS, day=day, inputs=inputs)


def curves_of(house: House, as_of: date) -> Generation | None:
    """The live curves for labels as of the end of a day."""
    return house.store.generation(COMPLETENESS, as_of)


def _mature(house: House, day: date) -> dict[date, Generation]:
    """Live samples of the last days whose labels were final before the run of ``day``.

    Those that become final with that run are left to the next: they are made together with the samples that
    take the curves.
    """
    restated = timedelta(days=house.scenario.restated_days)
    last = day - restated - timedelta(days=1)
    found: dict[date, Generation] = {}
    for exposed in days_between(last - timedelta(days=HISTORY_DAYS - 1), last):
        generation = house.store.generation(samples(house.scenario), exposed)
        if generation is not None and told_until(generation) >= exposed + restated:
            found[exposed] = generation
    return found


def told_until(generation: Generation) -> date:
    """The day as of whose end the labels of live samples are."""
    notes = generation.record["notes"]
    assert isinstance(notes, dict)  # noqa: S101 - written by `account`
    return date.fromisoformat(str(notes["as_of"]))
