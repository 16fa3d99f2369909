"""What a table is: its columns, how it is cut into partitions, and what it says to an analyst."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property, lru_cache

import polars as pl
import pyarrow as pa

#: Rows of a row group where a table does not say.
ROW_GROUP = 131_072
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}(/[a-z][a-z0-9_]{0,60})*")
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,60}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
# Delta has no unsigned integers and no time zone that every reader understands.
_TYPES = (
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(),
    pa.string(), pa.binary(), pa.date32(), pa.timestamp("us"),
)  # fmt: skip


@dataclass(frozen=True)
class Partition:
    """One logical date of one table, and one value of its second partition column where it has one.

    Attributes:
        day: logical date.
        cuts: name and value of the further partition columns: ``(("line", "ple"),)``.

    Raises:
        ValueError: no date, or a value that could leave its folder, or hide in it.

    >>> Partition(date(2026, 1, 2), (("line", "ple"),)).folder
    'dt=2026-01-02/line=ple'
    """

    day: date
    cuts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.day, date) or isinstance(self.day, datetime):
            raise ValueError(f"A partition is named by a date, got {self.day!r}.")
        for name, value in self.cuts:
            if not _COLUMN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"Partition value must match {_VALUE.pattern!r}, got {name}={value!r}.")

    @property
    def values(self) -> dict[str, str]:
        """Partition values as they are written into folder names and into the Delta log."""
        return {"dt": self.day.isoformat(), **dict(self.cuts)}

    @property
    def folder(self) -> str:
        """Folder below the table's own, in Hive layout."""
        return "/".join(f"{name}={value}" for name, value in self.values.items())


@dataclass(frozen=True)
class Table:
    """A declared table.

    Floating-point columns are stored byte-stream-split, all others with a dictionary.

    Attributes:
        name: folder below the warehouse: ``samples``, ``events/exposure``.
        schema: columns without the partition columns; timestamps are naive, in microseconds, UTC.
        partition_by: ``dt`` and at most one column of strings: ``("dt", "line")``.
        sort_by: order of the rows in a shard; empty where the order carries no meaning.
        description: one sentence for the catalogue: the grain first.
        columns: comments of the columns for the catalogue: unit, meaning of null.
        row_group: rows of a row group, which a reader decodes at once.

    Raises:
        ValueError: a declaration that contradicts itself or that Delta cannot hold.
    """

    name: str
    schema: pa.Schema
    partition_by: tuple[str, ...] = ("dt",)
    sort_by: tuple[str, ...] = ()
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    row_group: int = ROW_GROUP

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"Table name must match {_NAME.pattern!r}, got {self.name!r}.")
        dt, *further = self.partition_by
        if dt != "dt" or len(further) > 1 or not all(map(_COLUMN.fullmatch, further)):
            raise ValueError(
                f"{self.name}: partitions are 'dt' and at most one more column, got {self.partition_by}."
            )
        if self.row_group < 1:
            raise ValueError(f"{self.name}: a row group needs a row, got row_group={self.row_group}.")
        names = self.schema.names
        if len(set(names)) != len(names) or set(names) & set(self.partition_by):
            raise ValueError(f"{self.name}: columns must be distinct and not partition columns, got {names}.")
        for column in self.schema:
            if not _COLUMN.fullmatch(column.name):
                raise ValueError(f"{self.name}: column must match {_COLUMN.pattern!r}, got {column.name!r}.")
            inner = column.type.value_type if pa.types.is_list(column.type) else column.type
            if inner not in _TYPES:
                raise ValueError(f"{self.name}.{column.name}: a table cannot hold {column.type}.")
        if unknown := (set(self.sort_by) - set(names)) | (set(self.columns) - set(self.all_columns.names)):
            raise ValueError(f"{self.name}: sort_by or columns name {sorted(unknown)}, not in {names}.")

    @cached_property
    def all_columns(self) -> pa.Schema:
        """The columns followed by the partition columns, as a reader sees them."""
        dt, *further = self.partition_by
        cuts = [pa.field(dt, pa.date32()), *(pa.field(name, pa.string()) for name in further)]
        return pa.schema([*self.schema.remove_metadata(), *cuts])

    def partition(self, day: date, **cuts: str) -> Partition:
        """The partition of a day (and of a value of the second partition column).

        Raises:
            ValueError: a partition column is missing or surplus, or has a value that a folder must not have.
        """
        if set(cuts) != set(self.partition_by[1:]):
            raise ValueError(
                f"{self.name} is partitioned by {self.partition_by}, got {sorted(cuts)} beside the day."
            )
        return Partition(day, tuple(cuts.items()))


def arrow_schema(types: Mapping[str, pl.DataType]) -> pa.Schema:
    """The Arrow schema of Polars columns, with plain strings and lists instead of Polars' large ones."""
    return _arrow_schema(tuple(types.items()))


@lru_cache(maxsize=256)  # an empty frame takes milliseconds, and it is always of the same few tables
def _arrow_schema(types: tuple[tuple[str, pl.DataType], ...]) -> pa.Schema:
    frame = pl.DataFrame(schema=dict(types)).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.schema([(field.name, _plain(field.type)) for field in frame.schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind
