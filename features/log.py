"""What is live: the Delta log of one table, read once."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from features.delta import open_delta
from features.errors import BadWarehouse
from features.tables import Partition

KEY = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(
    r"dt=(?P<day>\d{4}-\d{2}-\d{2})/(?:(?P<cut>[^/=]+)=(?P<value>[^/]+)/)?"
    r"(?P<key>[0-9a-f]{16})-(?P<shard>\d{5})-(?P<digest>[0-9a-f]{16})\.parquet"
)


@dataclass(frozen=True)
class DataPath:
    """Where a data file lies below its table, and what its name says.

    Attributes:
        partition: the partition that it belongs to.
        key: generation that it belongs to, 16 hex digits.
        shard: number of the shard, from 0.
        digest: first 16 hex digits of the SHA-256 of its bytes. It makes names content addresses: two
            different files never share a name, and damage is found without a walk through the log.
    """

    partition: Partition
    key: str
    shard: int
    digest: str

    def __str__(self) -> str:
        return f"{self.partition.folder}/{self.key}-{self.shard:05d}-{self.digest}.parquet"

    @classmethod
    def parse(cls, text: str) -> DataPath:
        """The inverse of ``str``.

        Raises:
            ValueError: no name of ours.
        """
        if not (match := _FILE.fullmatch(text)):
            raise ValueError(f"Not a data file of this store: {text!r}.")
        day, cut, value, key, shard, digest = match.groups()
        return cls(_partition(day, cut, value), key, int(shard), digest)


@dataclass(frozen=True)
class LiveFile:
    """A data file that the newest version of a table refers to.

    Attributes:
        path: where it lies.
        rows: rows in it.
        size: bytes.
        committed_ms: when it was committed, in milliseconds since 1970 UTC.
    """

    path: DataPath
    rows: int
    size: int
    committed_ms: int


@dataclass(frozen=True)
class Snapshot:
    """The live files of one version of a table.

    Attributes:
        version: Delta version, -1 for a table that was never written.
        identity: identity of the table together with its version; two snapshots with equal identity
            hold the same files, even if the warehouse was deleted and made again in between.
        files: ordered by partition, key and shard.
    """

    version: int
    identity: str
    files: tuple[LiveFile, ...]

    @cached_property
    def partitions(self) -> Mapping[Partition, tuple[LiveFile, ...]]:
        """The live files of every partition that has one."""
        found: dict[Partition, list[LiveFile]] = defaultdict(list)
        for file in self.files:
            found[file.path.partition].append(file)
        return {partition: tuple(files) for partition, files in found.items()}

    def keys(self, partition: Partition) -> frozenset[str]:
        """Live keys: none or one; several only in an append-only table."""
        return frozenset(file.path.key for file in self.partitions.get(partition, ()))


def read_log(folder: Path) -> Snapshot:
    """What is live in the table in ``folder``.

    Raises:
        BadWarehouse: the log is torn, or another program wrote files into the table.
    """
    entries = [entry for entry in _entries(folder) if entry.name.endswith(".json")]
    if not entries:
        return snapshot(open_delta(folder))
    newest = max(entries, key=lambda entry: entry.name)
    told = newest.stat()
    return _read(folder, newest.name, told.st_ino, told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=256)
def _read(folder: Path, newest: str, inode: int, modified_ns: int, size: int) -> Snapshot:
    """The snapshot whose newest log entry is this file; replaying a log costs milliseconds each time."""
    del newest, inode, modified_ns, size  # they say whether the log is the one that was read before
    return snapshot(open_delta(folder))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder / "_delta_log") as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):  # never written, or not to be written: opening it tells
        return []


def snapshot(delta: DeltaTable | None) -> Snapshot:
    """What is live in an opened table; see `read_log`."""
    if delta is None:
        return Snapshot(-1, "", ())
    actions = pa.table(delta.get_add_actions(flatten=True))
    columns = ("path", "num_records", "size_bytes", "modification_time")
    rows = sorted(zip(*(actions[name].to_pylist() for name in columns), strict=True))
    try:
        files = tuple(LiveFile(DataPath.parse(path), *facts) for path, *facts in rows)
    except ValueError as error:
        step = "leave writing and compacting to this store; restore the version before"
        raise BadWarehouse(delta.table_uri, str(error), step) from error
    return Snapshot(delta.version(), f"{delta.metadata().id}@{delta.version()}", files)


@lru_cache(maxsize=16_384)
def _partition(day: str, cut: str | None, value: str | None) -> Partition:
    """Every reader names every live partition again; making one costs more than all else here."""
    return Partition(date.fromisoformat(day), ((cut, value),) if cut and value else ())
