"""What training rows see of a view that is fresh by event: its values as of each impression."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

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


def values_of(house: House, declared: View, day: date) -> Callable[[pl.LazyFrame], pl.DataFrame]:
    """Answers ``impression_id`` and the view's features for impressions of ``day``, in their order.

    What is the same for every block of impressions is found once: the history ready to be asked, and which
    files hold the events.

    Args:
        house: the warehouse, with the events and the roll-ups of the days before.
        declared: a view of windows or of a history.
        day: the logical day.

    Returns:
        A function of impressions with ``impression_id``, ``exposed_at`` and the view's keys.
    """
    scenario, store = house.scenario, house.store
    sources = sources_of(house, declared, day)

    def arrived(table: str) -> list[date]:
        return [g.partition.day for name, g in sources.items() if name.startswith(f"{table} ")]

    if isinstance(declared.source, History):
        changes = scenario.source(declared.source.source)
        rows = store.scan(events(changes), arrived(changes.table))
        ready = histories.versions(declared, changes, rows).collect().lazy()
        return partial(histories.at_impressions, declared, ready)
    source = _windows(declared)
    logs = {
        log.name: store.scan(events(log), arrived(log.table))
        for log in (scenario.impressions, *scenario.events)
    }
    counted, hourly = rollup_named(house, source.rollup), rollup_named(house, source.hourly)
    parts = None
    if counted is not None:
        parts = (counted, store.scan(rollup(counted, scenario), arrived(counted.table)))

    def values(impressions: pl.LazyFrame) -> pl.DataFrame:
        asked = impressions.select("impression_id", "exposed_at", *declared.keys).collect()
        return as_of_impressions(declared, scenario, asked, day, logs=logs, rollup=parts, hourly=hourly)

    return values


def _windows(declared: View) -> Windows:
    if not isinstance(declared.source, Windows):
        raise TypeError(f"View {declared.name!r} has neither windows nor a history.")
    return declared.source
