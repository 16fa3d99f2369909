"""What is live in one partition, and whether it is still what was committed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from features.errors import BadWarehouse
from features.intact import refuse_changed, remedy
from features.log import LiveFile
from features.parquet import read_record
from features.tables import Partition


@dataclass(frozen=True)
class Generation:
    """The live content of a partition.

    Attributes:
        partition: the partition.
        key: what it was made from; equal keys mean equal content.
        record: the writer's record of its inputs, from the footer; holds no wall times.
        paths: absolute paths, ordered by shard; whoever reads them asks for ``files``.
        rows: rows in all files.
        committed_at: when it became live; naive UTC.
    """

    partition: Partition
    key: str
    record: dict[str, object]
    paths: tuple[Path, ...]
    rows: int
    committed_at: datetime

    @property
    def files(self) -> tuple[Path, ...]:
        """The paths for an engine that is about to read them, after `verify`: nobody can forget it.

        Raises:
            ChecksumMismatch: a file has changed.
            BadWarehouse: a file is gone.
        """
        self.verify()
        return self.paths

    def verify(self) -> None:
        """Compare every byte with what was committed.

        Parquet readers return wrong rows for most flipped bits and say nothing, so inputs that we own
        are verified before use.

        Raises:
            ChecksumMismatch: a file has changed. Staging the same content again heals it.
            BadWarehouse: a file is gone.
        """
        refuse_changed(self.paths)


def load(folder: Path, partition: Partition, files: tuple[LiveFile, ...]) -> Generation:
    """The generation that the live files of a partition make up.

    Args:
        folder: the table's folder.
        partition: the partition.
        files: its live files, at least one.

    Raises:
        BadWarehouse: a file is missing or has another size than was committed, or the partition
            holds several generations, as in an append-only table.
    """
    where = f"{folder.name}/{partition.folder}"
    keys = sorted({file.path.key for file in files})
    if len(keys) != 1:
        raise BadWarehouse(where, f"holds several generations {keys}", "read append-only tables with scan")
    paths = tuple(folder / str(file.path) for file in files)
    for file, path in zip(files, paths, strict=True):
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            found = f"{path} has {size} bytes, committed {file.size}"
            raise BadWarehouse(where, found, remedy(partition.folder))
    told = paths[0].stat()
    record: dict[str, object] = json.loads(_record(paths[0], told.st_ino, told.st_mtime_ns, told.st_size))
    committed_ms = max(file.committed_ms for file in files)
    committed_at = datetime.fromtimestamp(committed_ms / 1000, UTC).replace(tzinfo=None)
    return Generation(partition, keys[0], record, paths, sum(file.rows for file in files), committed_at)


@lru_cache(maxsize=2048)
def _record(path: Path, inode: int, modified_ns: int, size: int) -> str:
    """The text in the footer; the plans of one run ask for that of the same file many times."""
    del inode, modified_ns, size  # they say whether it is the file that was read before
    return read_record(path)
