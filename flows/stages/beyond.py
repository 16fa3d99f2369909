"""Orphans whose impression is known: its window was over when they happened."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import polars as pl

from features.funnel import Objective
from features.labels import Attribution
from features.schemas import events
from flows.house import House

_PAIR = ("user_id", "item_id")


def beyond(
    house: House, objective: Objective, attribution: Attribution, orphans: pl.LazyFrame, days: Iterable[date]
) -> pl.DataFrame:
    """``event_id`` of the orphans that lie after the window of a touch.

    An orphan belongs to no touch, so one that is not before its touch is after the touch's window. A touch
    that is older than what is looked through is not known, and its event is told to be an orphan.

    Args:
        house: where.
        objective: whose.
        attribution: of everything that can still matter.
        orphans: of the objective, a day's; few.
        days: of arrival, whose touches are looked through.
    """
    asked = orphans.select("event_id", "impression_id", *_PAIR, "occurred_at").collect()
    if asked.is_empty():
        return asked.select("event_id")
    latest = pl.col("occurred_at") + house.scenario.skew
    named = asked.filter(pl.col("impression_id").is_not_null()).drop(_PAIR)
    nameless = asked.filter(pl.col("impression_id").is_null()).drop("impression_id").drop_nulls(_PAIR)
    touches = _touches(house, objective, attribution, asked, list(days))
    found = [
        rows.lazy().join(touches, on=keys).filter(pl.col("touched_at") <= latest).select("event_id")
        for rows, keys in ((named, ["impression_id"]), (nameless, list(_PAIR)))
    ]
    return pl.concat(found).unique().collect()


def _touches(
    house: House, objective: Objective, attribution: Attribution, asked: pl.DataFrame, days: list[date]
) -> pl.LazyFrame:
    """The touches that the asked events could mean: their impression, its user and item, and when."""
    scenario, store = house.scenario, house.store
    shown = store.scan(events(scenario.impressions), days).select("impression_id", *_PAIR, "exposed_at")
    by_id = asked.lazy().select("impression_id").drop_nulls()
    by_pair = asked.lazy().select(_PAIR).drop_nulls()
    meant = pl.concat(
        [shown.join(by_id, on="impression_id", how="semi"), shown.join(by_pair, on=_PAIR, how="semi")]
    )
    near = meant.unique("impression_id").collect(engine="streaming").lazy()
    if objective.given is None:
        return near.rename({"exposed_at": "touched_at"})
    log = store.scan(events(scenario.source(scenario.funnel[objective.given].log)), days)
    happened = log.select("event_id", touched_at="occurred_at").unique("event_id")
    owned = attribution.owners[objective.given].select("event_id", "impression_id")
    return (
        near.drop("exposed_at").join(owned, on="impression_id").join(happened, on="event_id").drop("event_id")
    )
