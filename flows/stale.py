"""Which live days of a view follow from other declarations than today's, and what makes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from features.on_demand import ON_DEMAND
from features.schemas import events, rollup, samples
from features.schemas import view as view_table
from features.tables import Table
from features.versions import on_demand_version
from features.view import View
from flows.house import House
from flows.stages.settle import Plan
from flows.stages.view import plan_rollup, plan_view

_PARTITION = re.compile(r" \d{4}-\d{2}-\d{2}$")


def stale_rollups(house: House) -> dict[str, tuple[str, ...]]:
    """Live days of the roll-ups that differ from their declaration, as ``<table> <day>``, and in what.

    What differs is told with the table's name: ``query of rollups/user``.
    """
    found = {}
    for declared in house.scenario.rollups:
        table = rollup(declared, house.scenario)
        days = house.store.days(table)
        wanted = _definition(plan_rollup(house, declared, days[-1])) if days else {}
        for day in days:
            if differs := _differing(wanted, _recorded(house, table, day)):
                found[f"{table.name} {day}"] = tuple(f"{name} of {table.name}" for name in differs)
    return found


def stale_days(
    house: House, view: View, rollups: Mapping[str, tuple[str, ...]]
) -> dict[date, tuple[str, ...]]:
    """Live days of a view that would be made anew, and what differs: ``definition``, ``code``, a partition.

    Nothing is computed: what the footer of each day says of its inputs is compared with today's plan. A day
    whose window holds a delivery that was read again names its part, as ``rollups/user 2026-01-05``; what
    lies there and is not read yet, ``funnelcast status`` shows.

    Args:
        house: where.
        view: the view.
        rollups: see `stale_rollups`; a day that was counted from one of them is stale too.
    """
    table = view_table(view, house.scenario)
    found = {}
    for day in house.store.days(table):
        recorded, wanted = _recorded(house, table, day), plan_view(house, view, day).inputs
        counted = dict.fromkeys(differs for name in recorded for differs in rollups.get(name, ()))
        gone = tuple(name for name in recorded if name not in wanted)
        if differs := (*_differing(wanted, recorded), *gone, *counted):
            found[day] = differs
    return found


def stale_samples(house: House) -> dict[date, tuple[str, ...]]:
    """Live days of the samples whose features on demand are declared otherwise now, and what differs.

    What else makes samples stale is told of the views that they are joined with, and by `funnelcast status`.
    """
    wanted, table = on_demand_version(house.scenario), samples(house.scenario)
    days = house.store.days(table)
    return {day: ("definition",) for day in days if _recorded(house, table, day).get(ON_DEMAND) != wanted}


def rebuild_command(house: House, stale: Iterable[date], sampled: Iterable[date] = ()) -> str | None:
    """The command that makes stale days of views anew; ``None`` if there is none, or no run that made it.

    A snapshot is made by the run of the day before, the first one by the run of its own day. Models of all
    later days trained on from those that change, so it goes on to the newest day.

    Args:
        house: where.
        stale: days of snapshots.
        sampled: days of samples, each made by the run of its own day.
    """
    ran = house.store.days(events(house.scenario.impressions))
    wanted = set(stale)
    by_eve = {day - timedelta(days=1) for day in wanted} & set(ran)
    by_own = {day for day in wanted & set(ran) if day - timedelta(days=1) not in by_eve}
    by_own |= set(sampled) & set(ran)
    if not by_eve | by_own:
        return None
    chosen = house.scenario.name
    named = "" if chosen == house.settings.scenario else f" --scenario {chosen}"
    return f"funnelcast backfill {min(by_eve | by_own)} {ran[-1]}{named}"


def _definition(plan: Plan) -> dict[str, str]:
    """The inputs of a plan that are no partition of a table: declarations and code, the same on all days."""
    return {name: value for name, value in plan.inputs.items() if not _PARTITION.search(name)}


def _differing(wanted: Mapping[str, str], recorded: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, value in wanted.items() if recorded.get(name) != value)


def _recorded(house: House, table: Table, day: date) -> Mapping[str, str]:
    """The inputs that the live partition of a day was made from."""
    generation = house.store.generation(table, day)
    inputs = {} if generation is None else generation.record["inputs"]
    assert isinstance(inputs, dict)  # noqa: S101 - every stage records them
    return inputs
