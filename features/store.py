"""The warehouse: tables whose days are replaced whole, by one transaction, under any number of readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from types import EllipsisType

import polars as pl
import pyarrow as pa

from features import commit as commits
from features.errors import BadWarehouse
from features.fingerprint import canonical
from features.generation import Generation, load
from features.intact import refuse_changed
from features.lease import lease
from features.log import KEY, LiveFile, Snapshot, read_log
from features.parquet import Rows
from features.staging import Shards, Staged, staging
from features.tables import Partition, Table

_LEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,120}")
_UNSAFE = re.compile(r"[*?\[\]={}%]")  # glob and Hive syntax: readers would take the path for a pattern


@dataclass(frozen=True)
class Store:
    """A warehouse folder of Delta tables over Hive-layout Parquet.

    Holds nothing but the path, so it may be pickled and shared by threads and processes.

    Attributes:
        root: the folder; made at the first write.

    Raises:
        BadWarehouse: the path holds characters that readers take for a pattern.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).resolve())
        if _UNSAFE.search(str(self.root)):
            raise BadWarehouse(
                str(self.root), "the path holds one of * ? [ ] { } = %", "choose a plainer folder"
            )

    def folder(self, table: Table) -> Path:
        """Where the table lies.

        Raises:
            BadWarehouse: a link leads out of the warehouse.
        """
        folder = (self.root / table.name).resolve()
        if not folder.is_relative_to(self.root):
            raise BadWarehouse(table.name, f"lies outside the warehouse, in {folder}", "remove the link")
        return folder

    def snapshot(self, table: Table) -> Snapshot:
        """The live files of the newest version.

        Raises:
            BadWarehouse: the log cannot be read.
        """
        return read_log(self.folder(table))

    def paths(self, table: Table, files: Iterable[LiveFile]) -> tuple[Path, ...]:
        """Absolute paths of live files, for catalogues that list them; unverified, see `intact`."""
        folder = self.folder(table)
        return tuple(folder / str(file.path) for file in files)

    def intact(self, table: Table, files: Iterable[LiveFile]) -> tuple[Path, ...]:
        """The same for engines that are about to read them: every byte is what was committed.

        Raises:
            ChecksumMismatch: a file has changed.
            BadWarehouse: a file is gone.
        """
        paths = self.paths(table, files)
        refuse_changed(paths)
        return paths

    def days(self, table: Table, **partition: str) -> list[date]:
        """Days that have a live partition, oldest first; of one line, say, or of any."""
        live = self.snapshot(table)
        if not partition:
            return list(live.by_day)
        return sorted({part.day for part in live.partitions if _matches(table, part, partition)})

    def generation(self, table: Table, day: date, **partition: str) -> Generation | None:
        """What is live in a partition, ``None`` if nothing is.

        Raises:
            BadWarehouse: a live file is missing or has another size than was committed.
            ValueError: a partition column is missing or surplus.
        """
        wanted, folder = table.partition(day, **partition), self.folder(table)
        files = read_log(folder).partitions.get(wanted, ())
        return load(folder, wanted, files) if files else None

    def generations(self, table: Table, day: date) -> tuple[Generation, ...]:
        """What is live on a day in all its partitions, ordered by name.

        Raises:
            BadWarehouse: see `generation`.
        """
        folder = self.folder(table)
        live = read_log(folder)
        parts = dict.fromkeys(file.path.partition for file in live.by_day.get(day, ()))
        return tuple(load(folder, part, live.partitions[part]) for part in parts)

    def scan(self, table: Table, days: Iterable[date] | None = None, **partition: str) -> pl.LazyFrame:
        """Lazy rows of exactly the live files, with the partition columns last.

        A column that older files lack reads as null. No live file gives a typed frame without rows. The
        files are held to their digests first, at some 1.3 GB a second and thread.

        Args:
            table: the table.
            days: days to read; all if ``None``.
            partition: value of a further partition column, for example ``line="ple"``; all if left out.

        Raises:
            ChecksumMismatch: a file has changed since it was committed.
            BadWarehouse: a file is gone, or the log cannot be read.
        """
        by_day = self.snapshot(table).by_day
        wanted = by_day if days is None else sorted(set(days))
        files = [
            file
            for day in wanted
            for file in by_day.get(day, ())
            if _matches(table, file.path.partition, partition)
        ]
        columns = table.all_columns
        if not files:
            return pl.LazyFrame(schema=_polars_schema(columns, tuple(columns.names)))
        return pl.scan_parquet(
            list(self.intact(table, files)),
            glob=False,
            schema=_polars_schema(columns, tuple(table.schema.names)),
            hive_partitioning=True,
            hive_schema=_polars_schema(columns, table.partition_by),
            missing_columns="insert",
            extra_columns="ignore",
        )

    @contextmanager
    def stage(
        self, table: Table, day: date, key: str, *, record: Mapping[str, object], **partition: str
    ) -> Iterator[Shards]:
        """Write the shards of a partition; nothing is visible before `commit`.

        Several processes may stage different shards of one partition under one key and hand their
        ``shards.staged`` to the process that commits.

        Args:
            table: the table.
            day: logical date.
            key: 16 hex digits that stand for everything the content depends on; see `fingerprint`.
            record: what the content was made from, for the footers; equal keys need equal records.
            partition: value of the table's further partition column, for example ``line="ple"``.

        Raises:
            ValueError: a key or partition of the wrong form.
            TypeError: a record that has no canonical JSON.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"A generation key has 16 hex digits, got {key!r}.")
        target = table.partition(day, **partition)
        with staging(self.root, self.folder(table), table, target, key, canonical(record)) as shards:
            yield shards

    def commit(
        self,
        staged: Shards | Staged | Iterable[Shards | Staged],
        *,
        expect: Generation | Iterable[Generation] | EllipsisType | None = ...,
    ) -> tuple[Generation, ...]:
        """Replace exactly the staged partitions of one table in one transaction.

        A reader sees all of them or none. If they are live already, nothing happens.

        Args:
            staged: staged partitions of one table; parts with one partition and one key are joined.
            expect: what the caller saw live in these partitions (``None`` or no generation of a
                partition: nothing). Left out, the last writer wins.

        Returns:
            The live generations of the staged partitions, in the given order.

        Raises:
            Busy: a partition no longer holds what was expected.
            BadWarehouse: the warehouse's table contradicts the declared one.
            ValueError: nothing staged, several tables, one partition under two keys, or a shard twice.
        """
        parts = _join([staged] if isinstance(staged, Shards | Staged) else staged)
        table = parts[0].table
        folder = self.folder(table)
        live = commits.replace(folder, table, parts, _expected(parts, expect)).partitions
        return tuple(load(folder, part.partition, live[part.partition]) for part in parts)

    def append(self, table: Table, day: date, frame: Rows) -> None:
        """Add rows to a day of an append-only table; adding the very same rows again is a no-op.

        Raises:
            BadWarehouse: columns or types are not those of the table.
        """
        with self._stage_rows(table, day) as shards:
            shards.write(frame)
        commits.append(self.folder(table), table, shards.staged)

    def join(self, table: Table, day: date) -> None:
        """Put one file in the place of a day's many in an append-only table; its rows and their order stay.

        Raises:
            Busy: rows came in meanwhile; nothing was changed.
        """
        old = self.snapshot(table).by_day[day]
        with self._stage_rows(table, day) as shards:
            shards.write(self.scan(table, [day]).drop("dt").collect().to_arrow())
        commits.join(self.folder(table), table, shards.staged, old)

    def _stage_rows(self, table: Table, day: date) -> AbstractContextManager[Shards]:
        """A workspace of a day whose key follows from its bytes."""
        return staging(self.root, self.folder(table), table, table.partition(day), None, canonical({}))

    def lease(self, name: str, *, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold a name among the processes of this machine while the block runs.

        Args:
            name: what is held, for example ``samples-2026-01-02``.
            wait: seconds to wait for another holder.

        Raises:
            Busy: another process holds it; names the holder.
            ValueError: a name that a file must not have.
        """
        if not _LEASE.fullmatch(name):
            raise ValueError(f"Lease must match {_LEASE.pattern!r}, got {name!r}.")
        return lease(self.root / "_locks" / f"{name}.lock", wait=wait)


def _matches(table: Table, partition: Partition, cuts: Mapping[str, str]) -> bool:
    if surplus := set(cuts) - set(table.partition_by[1:]):
        raise ValueError(f"{table.name} is partitioned by {table.partition_by}, got {sorted(surplus)}.")
    return not cuts or cuts.items() <= partition.values.items()


@lru_cache(maxsize=1024)  # of some dozens of tables; every scan asks three times
def _polars_schema(schema: pa.Schema, names: tuple[str, ...]) -> pl.Schema:
    """The Polars types of some columns."""
    empty = pl.from_arrow(schema.empty_table().select(list(names)))
    assert isinstance(empty, pl.DataFrame)  # noqa: S101 - from_arrow of a table is a frame
    return empty.schema


def _join(staged: Iterable[Shards | Staged]) -> list[Staged]:
    """One entry for each partition, with the shards of all workers."""
    joined: dict[Partition, Staged] = {}
    for item in staged:
        part = item.staged if isinstance(item, Shards) else item
        known = joined.get(part.partition)
        if known is None:
            joined[part.partition] = part
            continue
        if (known.key, known.record) != (part.key, part.record):
            raise ValueError(f"{part.partition.folder} is staged under two keys or records.")
        joined[part.partition] = replace(known, files=known.files + part.files)
    parts = list(joined.values())
    if not parts or len({part.table.name for part in parts}) != 1:
        raise ValueError("Commit one or several partitions of one table.")
    for part in parts:
        shards = [file.path.shard for file in part.files]
        if len(set(shards)) != len(shards):
            raise ValueError(f"{part.partition.folder} has a shard twice: {sorted(shards)}.")
    return parts


def _expected(
    parts: Iterable[Staged], expect: Generation | Iterable[Generation] | EllipsisType | None
) -> dict[Partition, str | None] | None:
    if isinstance(expect, EllipsisType):
        return None
    seen = [expect] if isinstance(expect, Generation) else expect or ()
    keys = {generation.partition: generation.key for generation in seen}
    return {part.partition: keys.get(part.partition) for part in parts}
