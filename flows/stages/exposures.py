"""Impressions of one day in the order of its samples, a block in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl

from features.calendar import days_between
from features.engine import connect
from features.schemas import events
from flows.house import House

#: Least rows in memory at a time. Every block is joined with whole views, so it is larger than a row group.
BLOCK = 524_288


def delivering(house: House, day: date, as_of: date, *, after: date | None = None) -> tuple[date, ...]:
    """Days up to ``as_of``, and ``after`` one, on which impressions of ``day`` may be delivered."""
    last = min(as_of, day + timedelta(days=house.scenario.impressions.late_days))
    return tuple(d for d in days_between(day, last) if after is None or d > after)


def exposures(house: House, day: date, as_of: date, *, after: date | None = None) -> Iterator[pl.DataFrame]:
    """Impressions of ``day`` that arrived by ``as_of``, ordered by ``exposed_at`` and ``impression_id``.

    With ``after``, only those that arrived on a later day than that. DuckDB sorts them within the memory of
    the settings and spills the rest.
    """
    table = events(house.scenario.impressions)
    arrivals = delivering(house, day, as_of, after=after)
    found = (house.store.generation(table, arrived) for arrived in arrivals)
    files = [str(file) for generation in found if generation is not None for file in generation.files]
    columns = ", ".join(f'"{name}"' for name in table.schema.names)
    with connect(house.limits) as connection:
        connection.read_parquet(files).create_view("arrived")
        rows = connection.sql(
            f"SELECT {columns} FROM arrived WHERE day = $day ORDER BY exposed_at, impression_id",  # noqa: S608
            params={"day": day},
        )
        # DuckDB hands out no more than one of its own row groups at once, whatever it is asked for.
        waiting: list[pl.DataFrame] = []
        for batch in rows.to_arrow_reader(BLOCK):
            part = pl.from_arrow(batch)
            assert isinstance(part, pl.DataFrame)  # noqa: S101 - from_arrow of a batch is a frame
            waiting.append(part)
            if sum(part.height for part in waiting) >= BLOCK:
                yield pl.concat(waiting)
                waiting = []
        if waiting:
            yield pl.concat(waiting)
