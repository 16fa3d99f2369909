"""Keep rows that were refused, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from features.bookkeeping import QUARANTINE
from flows.house import House
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan, repeated, settle


def quarantine(
    house: House, stage: str, source: str, day: date, inputs: Mapping[str, str], rows: pl.DataFrame
) -> tuple[StageRecord, ...]:
    """Keep refused rows with their reasons; a partition is written only where there is or was one."""
    plan = Plan(stage=stage, table=QUARANTINE, day=day, part=_origin(stage, source), inputs=inputs)
    if rows.is_empty() and not kept(house, stage, source, day):
        return ()
    return (settle(house.store, plan, lambda: Built(rows=rows.select(QUARANTINE.schema.names))),)


def kept(house: House, stage: str, source: str, day: date) -> tuple[StageRecord, ...]:
    """What is live already; a repeated or resumed run tells of the same partitions as the first one."""
    origin = _origin(stage, source)
    found = house.store.generation(QUARANTINE, day, origin=origin)
    plan = Plan(stage=stage, table=QUARANTINE, day=day, part=origin, inputs={})
    return () if found is None else (repeated(plan, found),)


def _origin(stage: str, source: str) -> str:
    return f"{stage}.{source}"
