"""One data file: declared columns only, bytes that depend on the rows and on nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import BadWarehouse
from features.tables import Table

RECORD = b"funnelcast"

Rows: TypeAlias = (
    pl.DataFrame
    | pl.LazyFrame
    | pa.Table
    | pa.RecordBatch
    | Iterable[pl.DataFrame | pa.Table | pa.RecordBatch]
)


def pieces(rows: Rows, table: Table, where: str) -> Iterator[pa.Table]:
    """The rows as Arrow tables in the declared columns.

    A Polars frame is sorted by ``table.sort_by`` first, which holds one shard in memory; a stream of
    batches is taken in its own order, which holds one row group.

    Raises:
        BadWarehouse: a column is missing, surplus, of another type or null against its declaration.
    """
    if isinstance(rows, pl.DataFrame | pl.LazyFrame):
        frame = rows.lazy()
        empty = pl.DataFrame(schema=frame.collect_schema()).to_arrow()
        conform(empty, table, where)  # before the sort and before the query runs
        if table.sort_by:
            frame = frame.sort(table.sort_by, maintain_order=True)
        batches = frame.collect_batches(chunk_size=table.row_group, maintain_order=True, engine="streaming")
        for batch in batches:
            yield conform(batch.to_arrow(), table, where)
        return
    for part in (rows,) if isinstance(rows, pa.Table | pa.RecordBatch) else rows:
        if isinstance(part, pl.DataFrame):
            arrow = part.to_arrow()
        else:
            arrow = pa.Table.from_batches([part]) if isinstance(part, pa.RecordBatch) else part
        yield conform(arrow, table, where)


def conform(rows: pa.Table, table: Table, where: str) -> pa.Table:
    """The same values in the declared order and in the declared Arrow types.

    Only the representation may differ (large, view or dictionary-encoded strings, large lists); a
    type that would need a cast of the values is refused, because a silent cast loses ids and instants.

    Raises:
        BadWarehouse: names every column that does not fit.
    """
    found = {column.name: column.type for column in rows.schema}
    faults = [f"unexpected column {name!r}" for name in found if name not in table.schema.names]
    for column in table.schema:
        if column.name not in found:
            faults.append(f"missing column {column.name!r}")
        elif _value_type(found[column.name]) != _value_type(column.type):
            faults.append(f"column {column.name!r} is {found[column.name]}, declared {column.type}")
        elif not column.nullable and rows[column.name].null_count:
            faults.append(f"column {column.name!r} holds nulls, declared without")
    if faults:
        raise BadWarehouse(where, "; ".join(faults), f"build the declared columns of table {table.name!r}")
    return rows.select(table.schema.names).cast(table.schema.remove_metadata())


def _value_type(kind: pa.DataType) -> pa.DataType:
    """The type without the choices of representation that do not change a value."""
    if pa.types.is_dictionary(kind):
        return _value_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_value_type(kind.value_type))
    return kind


class DataFile:
    """A Parquet file being written; rows may come in batches of any size.

    Row groups are cut at exactly ``table.row_group`` rows whatever the batches, so that equal rows give equal
    bytes. zstd 1 with byte-stream-split floats was the smallest and among the fastest of nine
    settings; a dictionary on floats costs 64 % more bytes and half the speed.

    Attributes:
        rows: rows taken so far.
    """

    def __init__(self, path: Path, table: Table, record: str) -> None:
        self.rows = 0
        self._path, self._schema = path, table.schema.with_metadata({RECORD: record.encode()})
        self._row_group = table.row_group
        self._waiting: list[pa.Table] = []
        floats, others = _leaves(table.schema)
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=others or False,
            use_byte_stream_split=floats or False,
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._waiting:
            self._flush(sum(part.num_rows for part in self._waiting))
        self._writer.close()
        if kind is None:
            sync(self._path)

    def write(self, batch: pa.Table) -> None:
        """Take rows that are already in the declared columns."""
        self.rows += batch.num_rows
        if batch.num_rows:
            self._waiting.append(batch)
        waiting = sum(part.num_rows for part in self._waiting)
        if waiting >= self._row_group:
            self._flush(waiting - waiting % self._row_group)

    def _flush(self, count: int) -> None:
        rows = pa.concat_tables(self._waiting)
        for start in range(0, count, self._row_group):
            # Only a group that lies across batches is copied.
            group = rows.slice(start, min(self._row_group, count - start)).combine_chunks()
            self._writer.write_table(group.replace_schema_metadata(self._schema.metadata))
        self._waiting = [rows.slice(count)] if count < rows.num_rows else []


def read_record(path: Path) -> str:
    """The record in a data file's footer.

    Raises:
        BadWarehouse: the file is missing, torn, or was not written by us.
    """
    try:
        footer: dict[bytes, bytes] = pq.read_metadata(path).metadata or {}
        record = footer[RECORD].decode()
        json.loads(record)
        return record
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise BadWarehouse(
            str(path), f"no data file of ours ({type(error).__name__})", "restore it, or build its day again"
        ) from error


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Parquet paths of the floating-point columns and of all others."""
    floats: list[str] = []
    others: list[str] = []
    for column in schema:
        nested = pa.types.is_list(column.type)
        inner = column.type.value_type if nested else column.type
        leaf = f"{column.name}.list.element" if nested else column.name
        (floats if pa.types.is_floating(inner) else others).append(leaf)
    return floats, others
