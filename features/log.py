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
    @lru_cache(maxsize=32_768)  # every version of a table names its old files again
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
    def by_day(self) -> Mapping[date, tuple[LiveFile, ...]]:
        """The live files of every day that has one, oldest first."""
        found: dict[date, list[LiveFile]] = defaultdict(list)
        for file in self.files:
            found[file.path.partition.day].append(file)
        return {day: tuple(found[day]) for day in sorted(found)}

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


@dataclass(frozen=True)
class _Known:
    """A snapshot and what says that it is still the newest: nothing before it is looked at again.

    Attributes:
        snapshot: what was live.
        entry: the log entry of its version.
        successor: the log entry that the next commit makes.
        stamp: of the entry's file, which a warehouse made anew does not have.
    """

    snapshot: Snapshot
    entry: str
    successor: str
    stamp: tuple[int, int, int]

    @property
    def newest(self) -> bool:
        """Two questions to the file system, however long the log is."""
        return _stamp(self.entry) == self.stamp and _stamp(self.successor) is None


_TABLES = 256
_known: dict[Path, _Known] = {}


def read_log(folder: Path) -> Snapshot:
    """What is live in the table in ``folder``; a table that has not changed is not read again.

    Raises:
        BadWarehouse: the log is torn, or another program wrote files into the table.
    """
    known = _known.get(folder)
    if known is not None and known.newest:
        return known.snapshot
    entries = [name for name in _entries(folder) if name.endswith(".json")]
    newest = max(entries, default="")
    stamp = _stamp(f"{folder}/_delta_log/{newest}")  # before it is read: a change in between is found later
    found = snapshot(open_delta(folder))
    if stamp is not None and newest == _entry(found.version):
        _keep(folder, found, stamp)
    return found


def remember(folder: Path, live: Snapshot) -> None:
    """Spare the next reader in this process the log that its writer has just read."""
    stamp = _stamp(f"{folder}/_delta_log/{_entry(live.version)}")
    if stamp is not None:
        _keep(folder, live, stamp)


def _keep(folder: Path, live: Snapshot, stamp: tuple[int, int, int]) -> None:
    if len(_known) >= _TABLES and folder not in _known:
        _known.clear()
    log = f"{folder}/_delta_log"
    entry, successor = f"{log}/{_entry(live.version)}", f"{log}/{_entry(live.version + 1)}"
    _known[folder] = _Known(live, entry, successor, stamp)


def _entry(version: int) -> str:
    return f"{version:020d}.json"


def _stamp(file: str) -> tuple[int, int, int] | None:
    """Which file it is; ``None`` if there is none, or none to be seen: opening the table tells."""
    try:
        told = os.stat(file)
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns, told.st_size


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder / "_delta_log")
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
