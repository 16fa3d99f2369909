"""Stage "view": roll the day's events up, and compute every view as of the next day's start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import duckdb
import polars as pl

import sql
from features.calendar import calendar, days_between
from features.distinct import sketches
from features.engine import connect
from features.errors import MissingStage
from features.generation import Generation
from features.histories import as_of_start, days_of_changes
from features.scenario import Rollup
from features.schemas import events, rollup, view
from features.snapshots import from_attributes, from_last_events, from_windows, lookback
from features.tables import Table
from features.versions import rollup_version, view_version
from features.view import Attributes, History, View, Windows
from flows.house import House
from flows.stages.keep import keep
from flows.stages.record import StageRecord
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
    "flows/stages/view.py",
)
#: What makes the sketches of a roll-up; everything else in one follows from its query and the events view.
_SKETCHES = ("features/distinct.py", "features/hashing.py")
_EVENT = ("user_id", "item_id", "day", "occurred_at", "arrived_at", "event_id")
# In integers, since intervals of hours would follow the clocks of a session's zone.
_HOURS = """
CREATE VIEW events AS
SELECT
    happened.*,
    make_timestamp(
        epoch_us(calendar.ends_at)
        - (epoch_us(calendar.ends_at) - epoch_us(happened.occurred_at) + 3599999999)
        // 3600000000 * 3600000000
    ) AS hour
FROM happened
INNER JOIN calendar ON happened.day = calendar.day
"""


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Roll-ups of the day, then the views that are valid at its start (if missing) and at its end.

    Parts of earlier days that these views count and that another declaration made are made anew first: no
    snapshot adds up what two queries say.

    Raises:
        MissingStage: the day's events have not been read.
    """
    del lines  # the same views serve every line
    rolled = [
        keep(house, plan_rollup(house, r, d), lambda r=r, d=d: _roll_up(house, r, d))  # type: ignore[misc]
        for r in house.scenario.rollups
        for d in (*_outdated(house, r, day), day)
    ]
    return (
        *rolled,
        *(_snapshot(house, v, valid) for valid in (day, _next(day)) for v in house.scenario.views),
    )


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether some roll-up or view is not what its inputs ask for."""
    del lines
    plans = [
        plan_rollup(house, r, d) for r in house.scenario.rollups for d in (*_outdated(house, r, day), day)
    ]
    plans += [plan_view(house, v, valid) for valid in (day, _next(day)) for v in house.scenario.views]
    return any(live(house.store, plan) is None for plan in plans)


def plan_rollup(house: House, declared: Rollup, day: date) -> Plan:
    """What a roll-up of the day depends on: its events and its query."""
    sources = [*_event_tables(house), *(events(house.scenario.source(name)) for name in declared.attributes)]
    inputs = {f"{table.name} {day}": _needed(house, table, day).key for table in sources}
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
    """The snapshot that rows of ``day`` see: the youngest valid by its start and within the max age."""
    table = view(declared, house.scenario)
    oldest = day - timedelta(days=declared.max_age_days)
    valid = [found for found in house.store.days(table) if oldest <= found <= day]
    return house.store.generation(table, valid[-1]) if valid else None


def _snapshot(house: House, declared: View, valid: date) -> StageRecord:
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
        told = scenario.source(source.source)
        known = [day for day in store.days(events(told)) if day < valid]
        if not known and told.timeless and store.generation(events(told), valid) is not None:
            known = [valid]
        return between(house, events(told), known[-1], known[-1] + timedelta(days=1)) if known else {}
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


def _outdated(house: House, declared: Rollup, day: date) -> list[date]:
    """Days before ``day`` whose parts the views of this run read, and that another declaration made."""
    read = [
        one
        for one in house.scenario.views
        if isinstance(one.source, Windows) and declared.name in (one.source.rollup, one.source.hourly)
    ]
    # Restated samples ask a view that is fresh by event again, as of their own day.
    again = house.scenario.restated_days
    past = max((lookback(one) + (again if one.freshness == "event" else 0) for one in read), default=0)
    version = rollup_version(declared)
    there = between(house, rollup(declared, house.scenario), day - timedelta(days=past), day)
    return [found.partition.day for found in there.values() if _recorded(found, "query") != version]


def _recorded(generation: Generation, name: str) -> str | None:
    """One of the inputs that a live partition was made from."""
    inputs = generation.record["inputs"]
    assert isinstance(inputs, dict)  # noqa: S101 - every stage records them
    return inputs.get(name)


def _needed(house: House, table: Table, day: date) -> Generation:
    found = house.store.generation(table, day)
    if found is None:
        raise MissingStage(f"{table.name} of {day}", "not there", f"run the stage read of {day} first")
    return found


def _event_tables(house: House) -> list[Table]:
    return [events(source) for source in (house.scenario.impressions, *house.scenario.events)]


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


def _roll_up(house: House, declared: Rollup, day: date) -> Built:
    """Run the roll-up's query over the day's arrivals, and make sketches of the values it lists for them."""
    table = rollup(declared, house.scenario)
    with connect(house.limits) as connection:
        _events_view(connection, house, day, declared)
        for name in declared.attributes:
            files = _needed(house, events(house.scenario.source(name)), day).files
            connection.read_parquet([str(file) for file in files]).create_view(name)
        counted = connection.sql(sql.load(declared.query).text).to_arrow_table()
    for state in declared.measures:
        if state.merge == "sketch":
            made = sketches(pl.Series(counted[state.name])).to_arrow()
            counted = counted.set_column(counted.schema.get_field_index(state.name), state.name, made)
    return Built(rows=counted.cast(table.schema).sort_by([(name, "ascending") for name in table.sort_by]))


def _events_view(connection: duckdb.DuckDBPyConnection, house: House, day: date, declared: Rollup) -> None:
    """The relation ``events``: what arrived on ``day``, of all sources.

    Its columns are kind, user_id, item_id, day, hour (counted back from the end of the day on which it
    happened), occurred_at, arrived_at, event_id, and what the roll-up reads beside: its context, and the
    values of its measures, null for events of a source without them.
    """
    followed = (house.scenario.impressions, *house.scenario.events)
    late = max(source.late_days for source in followed)
    days = days_between(day - timedelta(days=late), day)
    connection.register("calendar", calendar(days, house.scenario.zone).to_arrow())
    values = [name for name in declared.values if name not in (*_EVENT, *declared.context)]
    parts = []
    for source in followed:
        files = [str(file) for file in _needed(house, events(source), day).files]
        connection.read_parquet(files).create_view(f"arrived_{source.name}")
        told = "exposed_at" if source.role == "impression" else "occurred_at"
        read = [f'"{name}"' if name in source.schema.names else f'NULL AS "{name}"' for name in values]
        columns = ", ".join(
            ["user_id", "item_id", "day", f"{told} AS occurred_at", "arrived_at", f"{source.key} AS event_id"]
            + [f'"{name}"' for name in declared.context]
            + read
        )
        parts.append(
            f"SELECT '{source.name}' AS kind, {columns} FROM arrived_{source.name}"  # noqa: S608
        )
    connection.execute("CREATE VIEW happened AS " + " UNION ALL ".join(parts))
    if declared.bucket == "day":
        connection.execute("CREATE VIEW events AS SELECT * FROM happened")
    else:
        connection.execute(_HOURS)


def _next(day: date) -> date:
    return day + timedelta(days=1)
