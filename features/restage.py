"""Find what was staged and never committed, so that a resumed run need not make it again."""

from __future__ import annotations

from datetime import date

import pyarrow.parquet as pq

from features.fingerprint import file_sha256
from features.log import DataPath
from features.parquet import read_record
from features.staging import Staged, StagedFile
from features.store import Store
from features.tables import Table


def restage(store: Store, table: Table, day: date, key: str, *, shards: int, **cuts: str) -> Staged | None:
    """The finished files of a partition under their final names; ``None`` unless all are there and whole.

    Args:
        store: the warehouse.
        table: the table.
        day: logical date of the partition.
        key: generation key.
        shards: how many shards make the partition complete.
        cuts: values of the further partition columns.
    """
    partition = table.partition(day, **cuts)
    folder = store.folder(table)
    found = sorted((folder / partition.folder).glob(f"{key}-*.parquet"))
    paths = [DataPath.parse(file.relative_to(folder).as_posix()) for file in found]
    if [path.shard for path in paths] != list(range(shards)):
        return None
    whole = all(file_sha256(file)[:16] == path.digest for file, path in zip(found, paths, strict=True))
    if not whole:
        return None
    files = tuple(
        StagedFile(path, pq.read_metadata(file).num_rows, file.stat().st_size)
        for file, path in zip(found, paths, strict=True)
    )
    return Staged(table, partition, key, read_record(found[0]), files)
