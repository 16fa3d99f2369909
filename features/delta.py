"""The Delta table behind a declared one: opened, made, widened, and kept on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError

from features.errors import BadWarehouse
from features.parquet import sync
from features.tables import Table

_CONFIGURATION: Mapping[str, str | None] = {
    "delta.checkpointInterval": "10",
    "delta.logRetentionDuration": "interval 3650 days",  # history is the lineage record
    "delta.deletedFileRetentionDuration": "interval 7 days",  # readers of old catalogues keep their files
}


def open_delta(folder: Path) -> DeltaTable | None:
    """The newest version of the table in ``folder``, ``None`` if it was never written.

    Raises:
        BadWarehouse: the log is torn, as after a power loss, or is not a log of ours.
    """
    # A writer killed while it made the table leaves an empty log folder, which the library cannot open.
    try:
        return DeltaTable(folder) if _begun(folder / "_delta_log") else None
    except (DeltaError, OSError) as error:
        raise BadWarehouse(str(folder), f"its log cannot be read ({error})", _advice(folder)) from error


def prepare(folder: Path, table: Table, delta: DeltaTable | None) -> DeltaTable:
    """The opened table itself if it can hold the declared columns, else a new one, made or widened.

    Raises:
        CommitFailedError: another writer made or widened it at the same moment.
        BadWarehouse: it cannot hold the declared columns.
    """
    declared = Schema.from_arrow(table.all_columns)
    if delta is None:
        return _create(folder, table, declared)
    if tuple(delta.metadata().partition_columns) != table.partition_by:
        found = f"partitioned by {delta.metadata().partition_columns}, declared {list(table.partition_by)}"
        raise BadWarehouse(table.name, found, "give the table with the other partitions another name")
    known = {column.name: column.type for column in delta.schema().fields}
    for column in declared.fields:
        if column.name in known and known[column.name] != column.type:
            found = f"column {column.name!r} is {known[column.name]} in the warehouse, declared {column.type}"
            raise BadWarehouse(table.name, found, "give the column with the other type another name")
    added = [column for column in declared.fields if column.name not in known]
    if required := [column.name for column in added if not column.nullable]:
        found = f"new columns {required} are declared without nulls, but older days lack them"
        raise BadWarehouse(table.name, found, "declare them nullable")
    if not added:
        return delta
    delta.alter.add_columns(added)
    widened = DeltaTable(folder)
    settle(folder, delta.version() + 1, widened.version())
    return widened


def _create(folder: Path, table: Table, declared: Schema) -> DeltaTable:
    try:
        delta = DeltaTable.create(
            folder,
            declared,
            partition_by=list(table.partition_by),
            description=table.description or None,
            configuration=_CONFIGURATION,
            # The loser of a race would be tried again as version 1, under another identity of the table.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except DeltaError as error:
        if open_delta(folder) is None:
            raise BadWarehouse(
                table.name, f"cannot be created ({error})", "check the folder's permissions"
            ) from error
        raise CommitFailedError("another writer created the table") from error
    settle(folder, 0, 0)
    return delta


def settle(folder: Path, first: int, last: int) -> None:
    """Have the log on disk before anybody is told; the library leaves it to the page cache."""
    log = folder / "_delta_log"
    names = [
        f"{version:020d}{suffix}"
        for version in range(first, last + 1)
        for suffix in (".json", ".checkpoint.parquet")
    ]
    for path in (log / name for name in [*names, "_last_checkpoint"]):
        if path.exists():
            sync(path)
    sync(log)


def _begun(log: Path) -> bool:
    """Whether some entry is there; a long log is not listed to its end."""
    try:
        with os.scandir(log) as entries:
            return any(entry.name.endswith(".json") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _advice(folder: Path) -> str:
    """A commit is acknowledged after its log file is on disk, so a torn last one was never promised.

    A checkpoint only saves time: without it, the one before is read, and all entries since then.
    """
    log = folder / "_delta_log"
    pointer, entries = log / "_last_checkpoint", sorted(log.glob("*.json"))
    newest = max(log.glob("*.checkpoint.parquet"), default=pointer)
    if newest.exists() and all(_whole(one) for one in entries if one.name > newest.name or newest == pointer):
        also = "" if newest == pointer else f" and, if that is not enough, {newest}"
        return f"remove {pointer}{also}: they only save time, the log's entries hold the same"
    last = max(entries, default=None)
    return f"if {last} is cut short, remove it (its commit was never acknowledged) and run the day again"


def _whole(entry: Path) -> bool:
    try:
        for line in entry.read_bytes().splitlines():
            json.loads(line)
    except (OSError, ValueError):
        return False
    return True
