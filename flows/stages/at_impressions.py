"""What training rows see of a view that is fresh by event: its values as of each impression."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from features import histories
from features.at_impressions import as_of_impressions, days_of_events
from features.generation import Generation
from features.schemas import events, rollup
from features.view import History, View, Windows
from flows.house import House
from flows.stages.view import between, rollup_named

_ONE = timedelta(days=1)


def sources_of(house: House, declared: View, day: date) -> dict[str, Generation]:
    """The generations that the view's values at impressions of ``day`` follow from, by table and day."""
    if isinstance(declared.source, History):
        changes = events(house.scenario.source(declared.source.source))
        return between(house, changes, histories.days_of_changes(declared, day)[0], day + _ONE)
    source = _windows(declared)
    found: dict[str, Generation] = {}
    for arrived in days_of_events(source, house.scenario, day):
        for log in (house.scenario.impressions, *house.scenario.events):
            found |= between(house, events(log), arrived, arrived + _ONE)
    counted = rollup_named(house, source.rollup)
    if counted is not None:
        found |= between(house, rollup(counted, house.scenario), day - max(source.days) * _ONE, day)
    return found


def values_of(house: House, declared: View, day: date, impressions: pl.LazyFrame) -> pl.DataFrame:
    """``impression_id`` and the view's features of impressions of ``day``, in their order.

    Args:
        house: the warehouse, with the events and the roll-ups of the days before.
        declared: a view of windows or of a history.
        day: the logical day.
        impressions: ``impression_id``, ``exposed_at`` and the view's keys.
    """
    scenario, store = house.scenario, house.store
    sources = sources_of(house, declared, day)

    def arrived(table: str) -> list[date]:
        return [g.partition.day for name, g in sources.items() if name.startswith(f"{table} ")]

    if isinstance(declared.source, History):
        changes = scenario.source(declared.source.source)
        rows = store.scan(events(changes), arrived(changes.table))
        return histories.as_of_impressions(declared, changes, rows, impressions)
    source = _windows(declared)
    logs = {
        log.name: store.scan(events(log), arrived(log.table))
        for log in (scenario.impressions, *scenario.events)
    }
    counted = rollup_named(house, source.rollup)
    parts = None
    if counted is not None:
        parts = (counted, store.scan(rollup(counted, scenario), arrived(counted.table)))
    return as_of_impressions(
        declared,
        scenario,
        impressions.select("impression_id", "exposed_at", *declared.keys).collect(),
        day,
        logs=logs,
        rollup=parts,
        hourly=rollup_named(house, source.hourly),
    )


def _windows(declared: View) -> Windows:
    if not isinstance(declared.source, Windows):
        raise TypeError(f"View {declared.name!r} has neither windows nor a history.")
    return declared.source
