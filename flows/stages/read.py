"""Stage "read": raw files of a day to typed, deduplicated events; what cannot be one goes to quarantine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import sql
from features.calendar import calendar, days_between
from features.contracts import blaming, check_raw, raw_files, readable_together
from features.engine import connect
from features.errors import MissingLog, TooManyQuarantined
from features.fingerprint import file_sha256, fingerprint
from features.generation import Generation
from features.scenario import Source
from features.schemas import events
from features.tables import ROW_GROUP
from features.validation.tables import contract
from features.versions import without_comments
from flows.house import House
from flows.stages.keep import keep
from flows.stages.quarantine import kept, quarantine
from flows.stages.record import StageRecord
from flows.stages.redelivery import NOT_READ, read_before, warn_of_columns, with_changes
from flows.stages.settle import Built, Plan, code, live, repeated

log = logging.getLogger("funnelcast.read")

STAGE = "read"
DUPLICATE = "DUPLICATE"
#: Instants outside the years 2000 to 2100 are a mistaken unit, not a time (Unix milliseconds).
OLDEST_MS, NEWEST_MS = 946_684_800_000, 4_102_444_800_000


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Read every source of the day.

    Raises:
        MissingLog, CorruptInput, SchemaDrift, TooManyQuarantined: nothing of the source was
            committed, and nothing of any later stage.
    """
    del lines  # the same events serve every line
    check(house, day)
    return tuple(record for source in house.scenario.sources for record in read(house, source, day))


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether some source of the day is not read, or was read from other files."""
    del lines
    return not all(is_read(house, source, day) for source in house.scenario.sources)


def delivered(house: House, source: Source, day: date) -> bool:
    """Whether raw files of the source lie there for the day."""
    try:
        return bool(raw_files(source, house.logs, day))
    except MissingLog:
        return False


def is_read(house: House, source: Source, day: date) -> bool:
    """Whether what was delivered is what was read."""
    return _satisfied(house, source, day, files_of(house, source, day)) is not None


def read(house: House, source: Source, day: date) -> tuple[StageRecord, ...]:
    """One source: its quarantine first, then its rows, whose commit says that the source is done."""
    files = files_of(house, source, day)
    done = _satisfied(house, source, day, files)
    if done is not None:
        return (*kept(house, STAGE, source.name, day), done)
    assert files is not None  # noqa: S101 - without files, the source was satisfied or refused
    plan = plan_read(house, source, day, files)
    with connect(house.limits) as connection:
        strange = check_raw(connection, source, files)
        counts = _query(connection, house, source, day, readable_together(files, strange, source))
        rows_in = sum(counts.values())
        if source.role == "impression" and rows_in == 0:
            log.warning("%s of %s holds no row: the day is neither learned nor published", source.name, day)
        refused = {str(r): n for r, n in sorted(counts.items(), key=str) if r not in (None, DUPLICATE)}
        _refuse_excess(source, day, files, refused, rows_in)
        rows = connection.sql(_REFUSED, params={"copy": DUPLICATE}).pl()
        quarantined = quarantine(house, STAGE, source.name, day, plan.inputs, rows)
        columns = ", ".join(f'"{name}"' for name in source.schema.names)
        accepted = connection.sql(
            f'SELECT {columns} FROM delivery WHERE verdict IS NULL ORDER BY "{source.key}"'  # noqa: S608
        )
        built = Built(
            rows=_batches(accepted, source.schema),
            rows_in=rows_in,
            deduplicated=counts.get(DUPLICATE, 0),
            quarantined=refused,
            notes={"files": [file.name for file in files], NOT_READ: strange},
        )
        warn_of_columns(house, source, day, strange)
        before = read_before(house, source, day)
        record = with_changes(house, source, day, before, keep(house, plan, lambda: built))
        return (*quarantined, record)


_REFUSED = """
SELECT verdict AS reason, row_text
FROM delivery
WHERE verdict IS NOT NULL AND verdict <> $copy
ORDER BY verdict, row_text
"""


def files_of(house: House, source: Source, day: date) -> list[Path] | None:
    """The day's raw files; ``None`` if they are gone but had been read.

    Raises:
        MissingLog: they are gone, or never came, and nothing was read.
    """
    try:
        return raw_files(source, house.logs, day)
    except MissingLog:
        if house.store.generation(events(source), day) is None:
            raise
        return None


def _satisfied(house: House, source: Source, day: date, files: list[Path] | None) -> StageRecord | None:
    table = events(source)
    if files is None:
        found = house.store.generation(table, day)
        assert found is not None  # noqa: S101 - see files_of
        return repeated(Plan(stage=STAGE, table=table, day=day, inputs={}), found)
    plan = plan_read(house, source, day, files)
    found = live(house.store, plan)
    return None if found is None else repeated(plan, found)


def plan_read(house: House, source: Source, day: date, files: list[Path]) -> Plan:
    """What the events of a delivery depend on: its files, what came before, and what is declared."""
    query = sql.load(source.query)
    inputs = {
        **{f"raw {file.name}": raw_sha256(file, file.stat().st_mtime_ns) for file in files},
        **{f"{source.table} {g.partition.day}": g.key for g in _earlier(house, source, day)},
        "query": fingerprint([without_comments(query.text), dict(source.params), source.schema.to_string()]),
        "contract": fingerprint(contract(events(source), house.scenario).definition),
        "code": code("flows/stages/read.py"),
        "zone": house.scenario.zone,
    }
    return Plan(stage=STAGE, table=events(source), day=day, inputs=inputs)


def _earlier(house: House, source: Source, day: date) -> list[Generation]:
    """Deliveries that may hold a copy of a row of this one."""
    days = [day - timedelta(days=back) for back in range(source.late_days, 0, -1)]
    found = (house.store.generation(events(source), earlier) for earlier in days)
    return [generation for generation in found if generation is not None]


@lru_cache(maxsize=4096)
def raw_sha256(file: Path, modified_ns: int) -> str:
    """Hash of a raw file; read once a process as long as it is not touched."""
    del modified_ns
    return file_sha256(file)[:16]


def check(house: House, day: date) -> None:
    """Hold every file of the day to its contract before the first row of any is read."""
    with connect(house.limits) as connection:
        for source in house.scenario.sources:
            check_raw(connection, source, files_of(house, source, day) or [])


def _query(
    connection: duckdb.DuckDBPyConnection, house: House, source: Source, day: date, files: list[Path]
) -> dict[str | None, int]:
    """Run the source's query into the table ``delivery``; rows by verdict."""
    query = sql.load(source.query)
    days = days_between(day - timedelta(days=source.late_days), day)
    connection.register("calendar", calendar(days, house.scenario.zone).to_arrow())
    earlier = [str(file) for generation in _earlier(house, source, day) for file in generation.files]
    if earlier:
        connection.read_parquet(earlier).create_view("earlier")
    else:
        connection.register("earlier", source.schema.empty_table())
    values: dict[str, Any] = {
        "files": [str(file) for file in files],
        "arrives_at": house.day_start(day),
        "oldest_ms": OLDEST_MS,
        "newest_ms": NEWEST_MS,
        **source.params,
    }
    bound = {name: value for name, value in values.items() if name in query.params}
    with blaming(files):
        connection.sql(query.text, params=bound).create("delivery")
    return dict(connection.sql("SELECT verdict, count(*) FROM delivery GROUP BY verdict").fetchall())


def _refuse_excess(
    source: Source, day: date, files: list[Path], refused: dict[str, int], rows_in: int
) -> None:
    share = sum(refused.values()) / max(rows_in, 1)
    if share > source.max_quarantined:
        counts = ", ".join(f"{reason} {count}" for reason, count in refused.items())
        raise TooManyQuarantined(
            f"{source.name} of {day}, {files[0]}",
            f"{share:.1%} of {rows_in} rows cannot be read ({counts}), allowed {source.max_quarantined:.1%}",
            "deliver the day again, or raise max_quarantined of the source in its scenario",
        )


def _batches(rows: duckdb.DuckDBPyRelation, schema: pa.Schema) -> Iterator[pa.Table]:
    for batch in rows.to_arrow_reader(ROW_GROUP):
        yield pa.Table.from_batches([batch]).cast(schema)
