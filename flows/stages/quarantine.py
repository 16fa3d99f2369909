"""Keep rows that were refused, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date

import polars as pl

from features.bookkeeping import QUARANTINE
from features.errors import TooManyQuarantined
from features.staging import Staged
from features.validation.contract import Contract, accepted, refused
from features.validation.tables import contract
from flows.house import House
from flows.stages.promise import blocks, scan
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan, repeated, settle, stage

#: Origin of the rows that broke a rule of their table's contract.
RULE = "rule"


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


def sift(house: House, plan: Plan, built: Built, staged: Staged) -> Staged:
    """Move the rows that break a rule of level ``quarantine`` from the staged partition into quarantine.

    Usually there is none, and the partition stays as it is. Otherwise it is written once more without
    them; they are committed first, so that no reader finds a row in neither place.

    Args:
        house: where to work.
        plan: of the partition.
        built: as it was staged; its count of quarantined rows grows by those found here.
        staged: what was written.

    Raises:
        TooManyQuarantined: more of the rows are refused than the contract allows.
    """
    told = contract(plan.table, house.scenario)
    name = plan.table.name.replace("/", ".")
    if not told.definition:
        return staged
    bad = _refused(house, plan, told, staged)
    text = bad.select("reason", pl.struct(pl.exclude("reason")).struct.json_encode().alias("row_text"))
    quarantine(house, RULE, name, plan.day, plan.inputs, text.sort("reason", "row_text"))
    if bad.is_empty():
        return staged
    counts = Counter(built.quarantined) + Counter(bad["reason"].to_list())
    again = replace(
        built, rows=_accepted(house, plan, told, staged), quarantined=dict(sorted(counts.items()))
    )
    return stage(house.store, plan, again)


def _refused(house: House, plan: Plan, told: Contract, staged: Staged) -> pl.DataFrame:
    allowed = told.max_quarantined * sum(file.rows for file in staged.files)
    found: list[pl.DataFrame] = []
    for block in blocks(scan(house, plan.table, [staged])):
        found.append(refused(told, block))
        if sum(part.height for part in found) > allowed:
            first = next(part for part in found if part.height).row(0, named=True)
            raise TooManyQuarantined(
                f"{plan.table.name} of {plan.day}",
                f"more than {told.max_quarantined:.1%} of the rows break its contract; first: {first}",
                "correct the source, the range that the feature declares, or max_quarantined of the source",
            )
    return pl.concat(found) if found else refused(told, scan(house, plan.table, []).collect())


def _accepted(house: House, plan: Plan, told: Contract, staged: Staged) -> Iterator[pl.DataFrame]:
    for block in blocks(scan(house, plan.table, [staged])):
        yield accepted(told, block).select(plan.table.schema.names)


def _origin(stage: str, source: str) -> str:
    return f"{stage}.{source}"
