"""Files that are written but not yet live: nobody reads them, and a dead writer's are swept away."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from features.errors import Busy
from features.fingerprint import file_sha256, fingerprint
from features.lease import lease
from features.log import DataPath
from features.parquet import DataFile, Rows, pieces, sync
from features.tables import Partition, Table

STAGING = "_staging"
_SHARDS = 100_000


@dataclass(frozen=True)
class StagedFile:
    """A finished data file under its final name, not yet live."""

    path: DataPath
    rows: int
    size: int


@dataclass(frozen=True)
class Staged:
    """The finished files of one partition, ready to be committed; may travel between processes.

    Attributes:
        table: the table.
        partition: the partition that they will replace.
        key: generation key.
        record: canonical JSON of the caller's record, as it stands in every footer.
        files: ordered by shard.
    """

    table: Table
    partition: Partition
    key: str
    record: str
    files: tuple[StagedFile, ...]


class Shards:
    """Writer of the shards of one partition; see `features.store.Store.stage`."""

    def __init__(
        self, workspace: Path, folder: Path, table: Table, partition: Partition, key: str | None, record: str
    ) -> None:
        self._workspace, self._folder = workspace, folder
        self._table, self._partition, self._key, self._record = table, partition, key, record
        self._rows: dict[int, int] = {}
        self._staged: Staged | None = None

    def write(self, rows: Rows, shard: int = 0) -> int:
        """Write one shard; several threads may each write their own.

        Args:
            rows: a Polars frame (sorted here by the table's ``sort_by``), an Arrow table, or an
                iterator of batches in their final order.
            shard: its number, from 0; the order of the shards is the order of a scan.

        Returns:
            Rows written; a shard may have none.

        Raises:
            BadWarehouse: columns or types are not those of the table.
            ValueError: the shard was written before, or its number is out of range.
        """
        if not 0 <= shard < _SHARDS or shard in self._rows:
            raise ValueError(f"Shard must be new and in 0..{_SHARDS - 1}, got {shard}.")
        self._rows[shard] = 0
        where = f"{self._table.name}/{self._partition.folder}"
        with DataFile(self._temporary(shard), self._table, self._record) as file:
            for piece in pieces(rows, self._table, where):
                file.write(piece)
        self._rows[shard] = file.rows
        return file.rows

    @property
    def staged(self) -> Staged:
        """What was written, once the ``with`` block has ended well.

        Raises:
            RuntimeError: the block is still open, or it failed.
        """
        if self._staged is None:
            raise RuntimeError("Commit after the `with store.stage(...)` block: its files have no names yet.")
        return self._staged

    def _finish(self) -> None:
        """Give every shard its final name; still invisible to readers, who follow the log."""
        if not self._rows:  # a partition without rows is a partition, not a gap
            self.write(self._table.schema.empty_table())
        digests = {shard: file_sha256(self._temporary(shard)) for shard in sorted(self._rows)}
        key = self._key or fingerprint(list(digests.values()))
        files = tuple(self._place(shard, key, digest) for shard, digest in digests.items())
        self._staged = Staged(self._table, self._partition, key, self._record, files)

    def _place(self, shard: int, key: str, digest: str) -> StagedFile:
        temporary = self._temporary(shard)
        path = DataPath(self._partition, key, shard, digest[:16])
        final = self._folder / str(path)
        _make_folder(final.parent)
        size = temporary.stat().st_size
        # Equal bytes stay, for their readers' sake; a damaged file of this name is healed.
        if not final.exists() or final.stat().st_size != size or file_sha256(final) != digest:
            temporary.replace(final)
            sync(final.parent)
        return StagedFile(path, self._rows[shard], size)

    def _temporary(self, shard: int) -> Path:
        return self._workspace / f"{shard:05d}.parquet"


@contextmanager
def staging(
    root: Path, folder: Path, table: Table, partition: Partition, key: str | None, record: str
) -> Iterator[Shards]:
    """A workspace for one partition, removed when the block ends and swept later if it could not be.

    Args:
        root: the warehouse.
        folder: the table's folder in it.
        table: the table.
        partition: the partition.
        key: generation key; ``None`` makes one from the bytes themselves.
        record: canonical JSON for the footers.
    """
    home = root / STAGING
    workspace = home / uuid.uuid4().hex
    with ExitStack() as stack:
        with _doorway(root):
            sweep(home)
            stack.enter_context(lease(workspace.with_suffix(".lock")))
            workspace.mkdir()
        try:
            shards = Shards(workspace, folder, table, partition, key, record)
            yield shards
            shards._finish()
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
            workspace.with_suffix(".lock").unlink(missing_ok=True)


def sweep(home: Path) -> None:
    """Remove the workspaces of writers that died; the caller stands in the doorway."""
    for lock in home.glob("*.lock"):
        try:
            with lease(lock):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        except Busy:  # its writer lives
            continue


@contextmanager
def _doorway(root: Path) -> Iterator[None]:
    """Held for moments only: between making a workspace and locking it, nobody may sweep."""
    with lease(root / "_locks" / "staging.lock", wait=60.0):
        yield


def _make_folder(folder: Path) -> None:
    """Like ``mkdir -p``, with the new names on disk."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        os.mkdir(folder)
    except FileExistsError:  # another writer of the same table was faster
        return
    sync(folder.parent)
