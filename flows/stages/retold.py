"""Samples that are told again: what was known at an impression stays, what happened next is told anew.

Nothing that arrives after its day changes the features of an impression. So a run that restates a day takes
them from the live samples, whatever their labels, if of all that these follow from only later arrivals and
the curves of completeness are others now. What is left to find are the features of the impressions that were
delivered since. The bytes are those that all of it made anew would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta

import polars as pl

from features.calendar import days_between
from features.errors import ChecksumMismatch
from features.generation import Generation
from features.samples import known_columns
from features.schemas import COMPLETENESS, events, samples
from flows.house import House
from flows.stages import exposures
from flows.stages.completeness import told_until
from flows.stages.exposures import delivering

_ONE = timedelta(days=1)


def standing(house: House, day: date, as_of: date, inputs: Mapping[str, str]) -> Generation | None:
    """The live samples of ``day`` if their features are what ``inputs`` would make them; else ``None``.

    Args:
        house: the warehouse.
        day: of the exposures.
        as_of: the labels to come are of its end.
        inputs: what the samples to come follow from, as their plan has it.
    """
    found = house.store.generation(samples(house.scenario), day)
    if found is None:
        return None
    told = told_until(found)
    followed = found.record["inputs"]
    assert isinstance(followed, dict)  # noqa: S101 - written by `account`
    changed = {name for name in {*followed, *inputs} if followed.get(name) != inputs.get(name)}
    if told > as_of or not changed <= _without_effect(house, day, told, as_of):
        return None
    try:
        found.verify()
    except ChecksumMismatch:  # made anew, the day is whole again
        return None
    # Those that were delivered since are held in memory.
    return found if _delivered(house, day, as_of, told) <= exposures.BLOCK else None


def retold(house: House, day: date, new: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Keys and features of all impressions of a day, in blocks in the order of samples.

    Args:
        house: with samples of the day that are ``standing``.
        day: of the exposures.
        new: the same columns of the impressions that are not among them, in the same order; all in memory.
    """
    columns = known_columns(house.scenario)
    there = house.store.scan(samples(house.scenario), [day]).select(columns)
    waiting = pl.concat([there.clear().collect(), *new])
    for block in there.collect_batches(chunk_size=exposures.BLOCK, maintain_order=True, engine="streaming"):
        if block.is_empty():
            continue
        at, last = block["exposed_at"][-1], block["impression_id"][-1]
        tied = (pl.col("exposed_at") == at) & (pl.col("impression_id") < last)
        before = (pl.col("exposed_at") < at) | tied
        own = waiting.filter(before)
        waiting = waiting[own.height :]
        yield pl.concat([block, own]).sort("exposed_at", "impression_id") if own.height else block
    if waiting.height:
        yield waiting


def _without_effect(house: House, day: date, told: date, as_of: date) -> set[str]:
    """Inputs that the features do not follow from, of impressions that were known by ``told``."""
    scenario, later = house.scenario, days_between(day + _ONE, as_of)
    shown = set(delivering(house, day, told))
    names = {f"{events(source).name} {arrived}" for source in scenario.events for arrived in later}
    names |= {f"{events(scenario.impressions).name} {arrived}" for arrived in later if arrived not in shown}
    return {*names, COMPLETENESS.name}


def _delivered(house: House, day: date, as_of: date, told: date) -> int:
    """How many impressions of a day arrived after ``told``."""
    arrivals = delivering(house, day, as_of, after=told)
    rows = house.store.scan(events(house.scenario.impressions), arrivals).filter(pl.col("day") == day)
    return int(rows.select(pl.len()).collect(engine="streaming").item())
