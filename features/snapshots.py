"""Compute a view's snapshot: what is known of each entity at the start of a day.

Everything read here had arrived before that instant; nothing of the day itself enters.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from features.scenario import Rollup, Source
from features.view import LastEvents, View, Windows


def lookback(view: View) -> int:
    """How many days of arrivals before the snapshot a view reads."""
    return max(view.source.days) if isinstance(view.source, Windows) else 1


def from_windows(
    view: View, source: Windows, rollup: Rollup, parts: pl.LazyFrame, valid_from: date
) -> pl.LazyFrame:
    """Windowed counts, from the partial sums that arrived in the ``lookback`` days before ``valid_from``.

    Args:
        view: the view.
        source: its windows.
        rollup: where the counts come from.
        parts: the view's keys, ``day`` and the counts, several rows per entity and day.
        valid_from: the windows are the days before this one.
    """
    sums = [
        pl.col(name)
        .filter(pl.col("day") >= valid_from - timedelta(days=days))
        .sum()
        .cast(pl.Int64)
        .alias(f"{name}_{days}d")
        for name in rollup.counts
        for days in source.days
    ]
    inside = parts.filter(
        (pl.col("day") >= valid_from - timedelta(days=max(source.days))) & (pl.col("day") < valid_from)
    )
    return _finish(view, inside.group_by(view.keys).agg(sums))


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
