"""Which event belongs to which impression, and what the events of an impression say together.

The rules are those of ``features.labels``. Copies of events and impressions are gone here, and what was taken
back of an event stands in its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from features.funnel import Funnel, Objective
from features.reversals import LEFT, REVERSED, UNDONE
from features.sieve import KEYS

#: What is known of an impression, carried along with the events that it owns.
SHOWN = (*KEYS, "exposed_at", "shown_known_at")


def held(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same rows, computed once and kept in memory.

    Only for what is of the size of the events. Left lazy, all steps would be one plan: its branches run side
    by side and need the memory of all of them together.
    """
    return rows.collect(engine="streaming").lazy()


def owned(log: pl.LazyFrame, touches: pl.LazyFrame, objective: Objective, skew: timedelta) -> pl.LazyFrame:
    """The events that belong to an impression, with its keys in place of their own.

    Args:
        log: distinct events with what is left of them.
        touches: what may own them: the impression's columns and ``touched_at``.
        objective: gives the window.
        skew: how long before its touch an event may lie.
    """
    near = (pl.col("occurred_at") >= pl.col("touched_at") - skew) & (
        pl.col("occurred_at") <= pl.col("touched_at") + objective.window
    )
    own = ["event_id", "occurred_at", "arrived_at", UNDONE, REVERSED, *([LEFT] if objective.value else [])]
    columns = [*own, *SHOWN]

    def candidates(asked: pl.LazyFrame, *keys: str) -> pl.LazyFrame:
        return touches.join(asked.select(keys), on=keys, how="semi")

    # Several touches of its impression may be near: which one does not matter, the owner is the same.
    named = log.select(*own, "impression_id").drop_nulls("impression_id")
    by_id = (
        named.join(candidates(named, "impression_id"), on="impression_id")
        .filter(near)
        .select(columns)
        .unique("event_id")
    )
    nameless = log.filter(pl.col("impression_id").is_null()).select(*own, "user_id", "item_id")
    nameless = nameless.drop_nulls(["user_id", "item_id"]).with_columns(
        latest_touch=pl.col("occurred_at") + skew
    )
    # Both sides are sorted here: with `by`, Polars does not check the order and would answer wrongly.
    by_touch = (
        nameless.sort("latest_touch", "event_id")
        .join_asof(
            candidates(nameless, "user_id", "item_id").sort("touched_at", "impression_id"),
            left_on="latest_touch",
            right_on="touched_at",
            by=["user_id", "item_id"],
            strategy="backward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("impression_id").is_not_null() & near)
    )
    return pl.concat([by_id, by_touch.select(columns)])


def per_impression(events: pl.LazyFrame, objective: Objective) -> pl.LazyFrame:
    """What an impression's own events say of one objective, its parent aside."""
    counts = ~pl.col(UNDONE)
    columns = [
        counts.sum().cast(pl.Int32).alias(objective.count),
        pl.col("occurred_at").filter(counts).min().alias(objective.occurred),
        pl.col("arrived_at").filter(counts).min().alias(objective.known),
        pl.max_horizontal(pl.col("arrived_at").max(), pl.col(REVERSED).max()).alias(objective.changed),
    ]
    if objective.value is not None:
        columns.append(pl.col(LEFT).filter(counts).sum().cast(pl.Int64).alias(objective.total))
    shown = pl.col("exposed_at", "shown_known_at").min()
    return events.group_by("impression_id").agg(shown, *columns)


def together(told: Mapping[str, pl.LazyFrame], funnel: Funnel) -> pl.LazyFrame:
    """One row per impression that owns an event: the few of which there is something to say."""
    shown = ("impression_id", "exposed_at", "shown_known_at")
    every = pl.concat([rows.select(shown) for rows in told.values()])
    labels = every.group_by("impression_id").agg(pl.all().min())
    for objective in funnel:
        own = told[objective.name].drop("exposed_at", "shown_known_at")
        labels = _label(labels.join(own, on="impression_id", how="left"), funnel, objective)
    return labels.drop("shown_known_at")


def _label(labels: pl.LazyFrame, funnel: Funnel, objective: Objective) -> pl.LazyFrame:
    """Complete the columns of an objective: nothing without its parent, no instant before its parent's."""
    happened = pl.col(objective.count) > 0
    before, heard = pl.col("exposed_at"), pl.col("shown_known_at")
    if objective.given is not None:
        parent = funnel[objective.given]
        happened &= pl.col(parent.count) > 0
        before, heard = pl.col(parent.occurred), pl.col(parent.known)
    instants = ((objective.occurred, before), (objective.known, heard))
    return labels.with_columns(
        *(pl.when(happened).then(name).otherwise(0).alias(name) for name in numbers(objective)),
        *(pl.when(happened).then(pl.max_horizontal(name, least)).alias(name) for name, least in instants),
    )


def numbers(objective: Objective) -> list[str]:
    """Columns of how many and how much."""
    return [objective.count, *([objective.total] if objective.value is not None else [])]
