"""Stage "view": roll the day's events up, and compute every view as of the next day's start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from features.calendar import days_between
from features.generation import Generation
from features.histories import as_of_start, days_of_changes
from features.scenario import Rollup
from features.schemas import events, rollup, samples, view
from features.snapshots import from_attributes, from_last_events, from_windows, lookback
from features.tables import Table
from features.versions import rollup_version, view_version
from features.view import Attributes, History, View, Windows
from flows.house import House
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.rollups import needed, roll_up, told
from flows.stages.settle import Built, Plan, code, live

STAGE = "view"
_CODE = (
    "features/aggregates.py",
    "features/as_of_index.py",
    "features/as_of_ready.py",
    "features/distinct.py",
    "features/histories.py",
    "features/instants.py",
    "features/key_lookup.py",
    "features/partials.py",
    "features/point_in_time.py",
    "features/snapshots.py",
    "features/view.py",
    "flows/stages/rollups.py",
    "flows/stages/view.py",
)
#: What makes the sketches of a roll-up; everything else in one follows from its query and the events view.
_SKETCHES = ("features/distinct.py", "features/hashing.py")


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Roll-ups of the day, then the views that are valid at its start (if missing) and at its end.

    Parts of earlier days that these views count are made first where another declaration made them, so that
    no snapshot adds up what two queries say, and where they are gone though the day was read, so that none
    counts less than what had arrived.

    Every day's samples see the snapshot of their own day's start and no other. One that is gone of a day
    whose samples this run restates is made again. A day that was never read leaves a gap: the snapshots
    after it say what is known without it (windows and sequences lack its events, attributes and histories
    are as old as their max age allows), and once it is read, `funnelcast features` lists them as stale.

    Raises:
        MissingStage: the day's events have not been read.
    """
    del lines  # the same views serve every line
    rolled = [
        keep(house, plan_rollup(house, r, d), lambda r=r, d=d: roll_up(house, r, d))  # type: ignore[misc]
        for r in house.scenario.rollups
        for d in (*outdated(house, r, day), day)
    ]
    return (
        *rolled,
        *(make_snapshot(house, v, valid) for v, valid in wanted(house, day)),
    )


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether some roll-up or view is not what its inputs ask for."""
    del lines
    plans = [
        plan_rollup(house, r, d) for r in house.scenario.rollups for d in (*outdated(house, r, day), day)
    ]
    plans += [plan_view(house, v, valid) for v, valid in wanted(house, day)]
    return any(live(house.store, plan) is None for plan in plans)


def plan_rollup(house: House, declared: Rollup, day: date) -> Plan:
    """What a roll-up of the day depends on: its events and its query."""
    inputs = {f"{table.name} {day}": needed(house, table, day).key for table in told(house, declared)}
    inputs["query"] = rollup_version(declared)
    if any(state.merge == "sketch" for state in declared.measures):
        inputs["code"] = code(*_SKETCHES)
    return Plan(stage=STAGE, table=rollup(declared, house.scenario), day=day, inputs=inputs)


def plan_view(house: House, declared: View, valid: date) -> Plan:
    """What a view depends on that is valid at the start of ``valid``: what had arrived before it."""
    inputs = {name: generation.key for name, generation in _sources(house, declared, valid).items()}
    inputs["definition"] = view_version(house.scenario, declared)
    inputs["code"] = code(*_CODE)
    return Plan(stage=STAGE, table=view(declared, house.scenario), day=valid, inputs=inputs)


def snapshot_of(house: House, declared: View, day: date) -> Generation | None:
    """The snapshot that rows of ``day`` see, as of its start; ``None`` while it is not made.

    An older one is no substitute: it lacks what arrived in between, and all can be computed from what did.
    """
    return house.store.generation(view(declared, house.scenario), day)


def wanted(house: House, day: date) -> list[tuple[View, date]]:
    """The snapshots that a run of ``day`` makes, unless they are live.

    They are those of its start and of its end, and those that are gone of the days whose samples it restates.
    """
    scenario, store = house.scenario, house.store
    sampled = set(store.days(samples(scenario)))
    gone = [
        (declared, earlier)
        for earlier in days_between(day - timedelta(days=scenario.restated_days), day - timedelta(days=1))
        for declared in scenario.views
        if earlier in sampled
        and declared.freshness == "daily"
        and snapshot_of(house, declared, earlier) is None
    ]
    return [*gone, *((declared, valid) for valid in (day, _next(day)) for declared in scenario.views)]


def make_snapshot(house: House, declared: View, valid: date) -> StageRecord:
    """A view as of the start of ``valid``, made unless it is live."""
    plan = plan_view(house, declared, valid)
    sources = _sources(house, declared, valid)

    def build() -> Built:
        known = _compute(house, declared, valid, sources)
        return Built(rows=known, notes={"sources": len(sources)})

    return keep(house, plan, build)


def _compute(house: House, declared: View, valid: date, sources: Mapping[str, Generation]) -> pl.LazyFrame:
    scenario, store, source = house.scenario, house.store, declared.source
    days = [generation.partition.day for generation in sources.values()]
    if isinstance(source, Windows):
        by_day, by_hour = rollup_named(house, source.rollup), rollup_named(house, source.hourly)
        return from_windows(
            declared,
            source,
            by_day,
            _parts(house, by_day, sources),
            valid,
            hourly=by_hour,
            hours=_parts(house, by_hour, sources),
            starts_at=house.day_start(valid),
        )
    if isinstance(source, Attributes):
        rows = store.scan(events(scenario.source(source.source)), days)
        return from_attributes(declared, rows)
    if isinstance(source, History):
        changes = scenario.source(source.source)
        return as_of_start(declared, changes, store.scan(events(changes), days), house.day_start(valid))
    table, log = view(declared, scenario), scenario.source(source.source)
    before = next((g.partition.day for name, g in sources.items() if name.startswith(table.name)), None)
    previous = None if before is None else store.scan(table, [before])
    arrived = [g.partition.day for name, g in sources.items() if name.startswith(log.table)]
    return from_last_events(declared, source, log, previous, store.scan(events(log), arrived))


def _sources(house: House, declared: View, valid: date) -> dict[str, Generation]:
    """The generations that a view reads to be valid at the start of ``valid``, by table and day."""
    store, scenario, source = house.store, house.scenario, declared.source
    if isinstance(source, Windows):
        found: dict[str, Generation] = {}
        # Windows of hours end with the day before: what arrived earlier had happened before it.
        for name, past in ((source.rollup, lookback(declared)), (source.hourly, 1)):
            if (counted := rollup_named(house, name)) is not None:
                found |= between(house, rollup(counted, scenario), valid - timedelta(days=past), valid)
        return found
    if isinstance(source, Attributes):
        log = scenario.source(source.source)
        # A delivery is known at its day's end.
        oldest = date.min if log.timeless else valid - timedelta(days=declared.max_age_days + 1)
        known = [day for day in store.days(events(log)) if oldest <= day < valid]
        if not known and log.timeless and store.generation(events(log), valid) is not None:
            known = [valid]
        return between(house, events(log), known[-1], known[-1] + timedelta(days=1)) if known else {}
    table, log = view(declared, scenario), scenario.source(source.source)
    if isinstance(source, History):
        return between(house, events(log), days_of_changes(declared, valid)[0], valid)
    version = view_version(scenario, declared)
    earlier = (store.generation(table, day) for day in reversed(store.days(table)) if day < valid)
    # What another declaration made, a shorter list say, is no state to go on from.
    before = next((found for found in earlier if found and _recorded(found, "definition") == version), None)
    first = before.partition.day if before else date.min
    state = {f"{table.name} {first}": before} if before else {}
    return {**state, **between(house, events(log), first, valid)}


def between(house: House, table: Table, first: date, end: date) -> dict[str, Generation]:
    """Live generations of the days from ``first`` to before ``end``."""
    found = {day: house.store.generation(table, day) for day in house.store.days(table) if first <= day < end}
    return {f"{table.name} {day}": generation for day, generation in found.items() if generation is not None}


def outdated(house: House, declared: Rollup, day: date) -> list[date]:
    """Days before ``day`` whose parts the views of this run read, and that are gone or declared otherwise."""
    read = [
        one
        for one in house.scenario.views
        if isinstance(one.source, Windows) and declared.name in (one.source.rollup, one.source.hourly)
    ]
    # Restated samples ask a view that is fresh by event again, as of their own day, and any whose snapshot is
    # gone.
    past = max((lookback(one) + house.scenario.restated_days for one in read), default=0)
    version = rollup_version(declared)
    table, first = rollup(declared, house.scenario), day - timedelta(days=past)
    there = {g.partition.day: g for g in between(house, table, first, day).values()}
    other = {earlier for earlier, found in there.items() if _recorded(found, "query") != version}
    read_on = [set(house.store.days(source)) for source in told(house, declared)]
    gone = {earlier for earlier in set.intersection(*read_on) if first <= earlier < day} - there.keys()
    return sorted(other | gone)


def _recorded(generation: Generation, name: str) -> str | None:
    """One of the inputs that a live partition was made from."""
    inputs = generation.record["inputs"]
    assert isinstance(inputs, dict)  # noqa: S101 - every stage records them
    return inputs.get(name)


def rollup_named(house: House, name: str) -> Rollup | None:
    """The scenario's roll-up of that name; none of no name."""
    return next(declared for declared in house.scenario.rollups if declared.name == name) if name else None


def _parts(house: House, declared: Rollup | None, sources: Mapping[str, Generation]) -> pl.LazyFrame | None:
    """The rows of a roll-up among the generations that a view reads."""
    if declared is None:
        return None
    table = rollup(declared, house.scenario)
    arrived = [g.partition.day for name, g in sources.items() if name.startswith(f"{table.name} ")]
    return house.store.scan(table, arrived)


def _next(day: date) -> date:
    return day + timedelta(days=1)
