"""Compute a view's snapshot: what is known of each entity at the start of a day.

Everything read here had arrived before that instant; nothing of the day itself enters.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from features.aggregates import DAY, HOUR, State, merged
from features.partials import over
from features.scenario import Rollup, Source
from features.view import LastEvents, View, Windows


def lookback(view: View) -> int:
    """How many days of arrivals before the snapshot a view reads."""
    return max(view.source.days, default=1) if isinstance(view.source, Windows) else 1


def from_windows(
    view: View,
    source: Windows,
    rollup: Rollup | None,
    parts: pl.LazyFrame | None,
    valid_from: date,
    *,
    hourly: Rollup | None = None,
    hours: pl.LazyFrame | None = None,
    starts_at: datetime | None = None,
) -> pl.LazyFrame:
    """What the parts say that arrived in the ``lookback`` days before ``valid_from``.

    Args:
        view: the view.
        source: its windows.
        rollup: whose parts those of days are; needed by windows of days.
        parts: the view's keys, ``day`` and the states, several rows per entity and day.
        valid_from: the windows are the days before this one.
        hourly: whose parts those of hours are; needed by windows of hours, as are the next two.
        hours: the view's keys, ``hour`` and the states.
        starts_at: the first instant of ``valid_from``, naive UTC.
    """
    asked = asked_of(view, source, rollup, hourly)
    daily = parts if parts is not None else pl.LazyFrame()
    return _finish(
        view, over(daily, asked, keys=view.keys, valid_from=valid_from, hourly=hours, starts_at=starts_at)
    )


def asked_of(
    view: View, source: Windows, rollup: Rollup | None, hourly: Rollup | None
) -> dict[timedelta, tuple[State, ...]]:
    """The states that the view's features are made from, by window; one a window at least."""
    used = {name for feature in view.features for name in feature.expr.meta.root_names()}
    asked: dict[timedelta, tuple[State, ...]] = {}
    for unit, numbers, told in ((DAY, source.days, rollup), (HOUR, source.hours, hourly)):
        states = () if told is None else told.states
        for window in (number * unit for number in numbers):
            asked[window] = tuple(state for state in states if merged(state, window) in used) or states[:1]
    return asked


def from_attributes(view: View, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Attributes as they are, one row an entity."""
    return _finish(view, rows)


def from_last_events(
    view: View, source: LastEvents, log: Source, previous: pl.LazyFrame | None, fresh: pl.LazyFrame
) -> pl.LazyFrame:
    """The last events per entity: the previous snapshot's, merged with those that arrived since.

    Ordered by time, newest first; of events at one instant, the greater item id counts as newer.
    """
    items, times = f"{log.name}_items", f"{log.name}_times"
    rows = [fresh.select(*view.keys, pl.col("item_id").alias(items), pl.col("occurred_at").alias(times))]
    if previous is not None:
        rows.append(previous.select(*view.keys, items, times).explode(items, times))
    merged = (
        pl.concat(rows)
        .sort(*view.keys, times, items, descending=[False] * len(view.keys) + [True, True])
        .group_by(view.keys, maintain_order=True)
        .agg(pl.col(items).head(source.length), pl.col(times).head(source.length))
    )
    return _finish(view, merged, keep=(items, times))


def state_columns(view: View, item: pl.DataType) -> tuple[tuple[str, pl.DataType], ...]:
    """Columns beside the features that the next snapshot of the view builds on.

    Args:
        view: the view.
        item: type of the item ids.
    """
    if isinstance(view.source, LastEvents):
        return (
            (f"{view.source.source}_items", pl.List(item)),
            (f"{view.source.source}_times", pl.List(pl.Datetime("us"))),
        )
    return ()


def _finish(view: View, rows: pl.LazyFrame, keep: tuple[str, ...] = ()) -> pl.LazyFrame:
    features = [feature.expr.cast(feature.dtype).alias(feature.name) for feature in view.features]
    return rows.select(*view.keys, *features, *keep).sort(view.keys)
