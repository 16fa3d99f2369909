"""Run the query of a roll-up over what arrived on a day."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import polars as pl

import sql
from features.calendar import calendar, days_between
from features.distinct import sketches
from features.engine import connect
from features.errors import MissingStage
from features.generation import Generation
from features.scenario import Rollup
from features.schemas import events, rollup
from features.tables import Table
from flows.house import House
from flows.stages.settle import Built

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


def roll_up(house: House, declared: Rollup, day: date) -> Built:
    """Run the roll-up's query over the day's arrivals, and make sketches of the values it lists for them."""
    table = rollup(declared, house.scenario)
    with connect(house.limits) as connection:
        _events_view(connection, house, day, declared)
        for name in declared.attributes:
            files = needed(house, events(house.scenario.source(name)), day).files
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
        files = [str(file) for file in needed(house, events(source), day).files]
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


def told(house: House, declared: Rollup) -> list[Table]:
    """Tables that a roll-up reads."""
    scenario = house.scenario
    named = (scenario.source(name) for name in declared.attributes)
    return [events(source) for source in (scenario.impressions, *scenario.events, *named)]


def needed(house: House, table: Table, day: date) -> Generation:
    """What is live of a day that the stage read has made.

    Raises:
        MissingStage: nothing is.
    """
    found = house.store.generation(table, day)
    if found is None:
        raise MissingStage(f"{table.name} of {day}", "not there", f"run the stage read of {day} first")
    return found
