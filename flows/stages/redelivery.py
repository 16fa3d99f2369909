"""What is new about a delivery: columns that the one before had not, and what changed since it was read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date

import polars as pl

from features.errors import BadWarehouse, ChecksumMismatch
from features.generation import Generation
from features.scenario import Source
from features.schemas import events
from flows.house import House
from flows.stages.record import StageRecord

log = logging.getLogger("funnelcast.read")

#: Columns of a delivery that were not read, in the notes of its record.
NOT_READ = "not_read"


def warn_of_columns(house: House, source: Source, day: date, strange: Mapping[str, tuple[str, ...]]) -> None:
    """Warn of columns that are not read now and were not there in the delivery before.

    Most logs have columns that nobody asked for. The record of every delivery names them; a warning a day
    would only be read once.

    Args:
        house: where.
        source: what was delivered.
        day: when.
        strange: as ``features.contracts.check_raw`` tells them.
    """
    earlier = [known for known in house.store.days(events(source)) if known < day]
    before = read_before(house, source, earlier[-1]) if earlier else None
    if before is None:
        return
    notes = before.record["notes"]
    known = _names(notes.get(NOT_READ, {}) if isinstance(notes, dict) else {})
    if new := sorted(_names(strange) - known):
        log.warning("%s of %s: new columns, not read: %s", source.name, day, ", ".join(new))


def read_before(house: House, source: Source, day: date) -> Generation | None:
    """What is live of a delivery; ``None`` where its files are gone, which says nothing of what it was."""
    try:
        return house.store.generation(events(source), day)
    except BadWarehouse:
        return None


def with_changes(
    house: House, source: Source, day: date, before: Generation | None, record: StageRecord
) -> StageRecord:
    """The record of a delivery that was read anew, with what differs from when it was read before.

    The files of before stay until ``funnelcast maintain``. What differs is no part of the new ones, which
    are the same whatever they replace.

    Args:
        house: where.
        source: what was delivered.
        day: when.
        before: what was live; ``None`` if nothing was.
        record: of what is live now.
    """
    if before is None or record.repeated or before.key == record.key:
        return record
    told = before.record["inputs"]
    assert isinstance(told, dict)  # noqa: S101 - every stage records them
    changed = [
        f"{name} {'new' if name not in told else 'gone' if name not in record.inputs else 'changed'}"
        for name in sorted({*told, *record.inputs})
        if told.get(name) != record.inputs.get(name)
    ]
    rows = {"before": before.rows, "now": record.rows_out, **_moved(house, source, day, before)}
    counts = ", ".join(f"{what} {count:,}" for what, count in rows.items())
    log.info("%s of %s is read anew: %s; rows: %s", source.name, day, ", ".join(changed), counts)
    replaced = {"generation": before.key, "changed": changed, "rows": rows}
    return replace(record, notes={**record.notes, "replaces": replaced})


def _moved(house: House, source: Source, day: date, before: Generation) -> dict[str, int]:
    """How many keys came and went; unknown where the old files are damaged, which the new ones heal."""
    try:
        files = list(before.files)
    except ChecksumMismatch:
        return {}
    then = pl.scan_parquet(files, glob=False, hive_partitioning=False).select(source.key)
    now = house.store.scan(events(source), [day]).select(source.key)
    pairs = {"came": (now, then), "went": (then, now)}
    found = [some.join(others, on=source.key, how="anti").select(pl.len()) for some, others in pairs.values()]
    return dict(zip(pairs, (int(one.item()) for one in pl.collect_all(found)), strict=True))


def _names(strange: Mapping[str, Iterable[str]]) -> set[str]:
    return {name for names in strange.values() for name in names}
