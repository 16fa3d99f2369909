"""What events belong to, as of the end of a day; one attribution for all days of exposure that ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from features.attribution_shards import attribute_in_shards
from features.calendar import days_between
from features.funnel import Objective
from features.labels import Attribution
from features.schemas import events
from flows.house import House
from flows.stages.beyond import beyond
from flows.stages.quarantine import quarantine
from flows.stages.record import StageRecord

#: Origin of the quarantined events that label nothing.
ORPHANS = "label"


@contextmanager
def attributed(house: House, as_of: date) -> Iterator[Attribution]:
    """Attribution of all events that samples or orphans as of the end of ``as_of`` can ask for.

    It is the same whichever days ask: it begins as many days before the oldest one that is restated as its
    impressions can lose an event to, and as many more as an event may be late that is told to be so. Many
    events are attributed in shards, and what came of them lies on disk until the block ends.
    """
    scenario = house.scenario
    days = _looked_through(house, as_of)
    logs = {o.name: house.store.scan(events(scenario.source(o.log)), days) for o in scenario.funnel}
    reversals = {
        o.name: house.store.scan(events(scenario.source(o.reversals)), days)
        for o in scenario.funnel
        if o.reversals is not None
    }
    scratch = house.limits.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="attribution-") as folder:
        yield attribute_in_shards(
            house.store.scan(events(scenario.impressions), days).drop("dt"),
            logs,
            scenario.funnel,
            skew=scenario.skew,
            reversals=reversals,
            as_of=house.watermark(as_of),
            folder=Path(folder),
        )


def _looked_through(house: House, as_of: date) -> tuple[date, ...]:
    """The days of arrival whose impressions and events are attributed."""
    scenario = house.scenario
    late = max(source.late_days for source in scenario.events)
    before = timedelta(days=scenario.restated_days + late + scenario.contested_days)
    return days_between(as_of - before, as_of)


def labels_of(house: House, day: date, attribution: Attribution) -> pl.DataFrame:
    """Labels of the impressions of one day."""
    own = pl.col("exposed_at").is_between(house.day_start(day), house.watermark(day), closed="left")
    return attribution.labels.filter(own).collect(engine="streaming")


def orphans(
    house: House, day: date, attribution: Attribution, inputs: Mapping[str, str]
) -> tuple[StageRecord, ...]:
    """Quarantine what arrived on ``day`` and labels nothing: of no impression, beyond its window, too late.

    The samples of an impression's day take what arrives up to ``restated_days`` after it.
    """
    ended = house.day_start(day - timedelta(days=house.scenario.restated_days))
    records: list[StageRecord] = []
    for objective in house.scenario.funnel:
        of_old = attribution.owners[objective.name].filter(pl.col("exposed_at") < ended)
        rows = pl.concat(_refused(house, objective, attribution, of_old, day)).collect(engine="streaming")
        records += quarantine(house, ORPHANS, objective.name, day, inputs, rows)
    return tuple(records)


def _refused(
    house: House, objective: Objective, attribution: Attribution, of_old: pl.LazyFrame, day: date
) -> list[pl.LazyFrame]:
    """``reason`` and ``row_text`` of a day's events and reversals that label nothing.

    Args:
        house: where.
        objective: whose.
        attribution: of everything that can still matter.
        of_old: ``event_id`` of the events that belong to impressions whose samples are closed.
        day: the day of arrival.
    """
    scenario, name = house.scenario, objective.name

    def told(reason: str, rows: pl.LazyFrame) -> pl.LazyFrame:
        text = pl.struct(pl.all()).struct.json_encode().alias("row_text")
        return rows.filter(pl.col("dt") == day).drop("dt").select(pl.lit(reason).alias("reason"), text)

    arrived = house.store.scan(events(scenario.source(objective.log)), [day])
    late = arrived.join(of_old, on="event_id", how="semi")
    orphaned = attribution.orphans[name].filter(pl.col("dt") == day)
    after = beyond(house, objective, attribution, orphaned, _looked_through(house, day)).lazy()
    refused = [
        told(f"BEYOND_{name.upper()}", orphaned.join(after, on="event_id", how="semi")),
        told(f"ORPHAN_{name.upper()}", orphaned.join(after, on="event_id", how="anti")),
        told(f"LATE_{name.upper()}", late),
    ]
    if objective.reversals is not None:
        idle, source = attribution.idle[name], objective.reversals.upper()
        reversed_ = house.store.scan(events(scenario.source(objective.reversals)), [day])
        late = reversed_.join(of_old, left_on="reverses", right_on="event_id", how="semi").join(
            idle, on="event_id", how="anti"
        )
        refused += [told(f"ORPHAN_{source}", idle), told(f"LATE_{source}", late)]
    return refused
