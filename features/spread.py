"""Rows spread over files by a hash: what belongs together lies together and is taken up a part at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

#: Rows that are read at a time.
BLOCK = 524_288
_PART = "__part"


class Spread:
    """A table in ``parts`` pieces on disk; rows with equal hashes lie in one piece."""

    def __init__(self, folder: Path, parts: int) -> None:
        """Args: folder: new, for this table alone; parts: how many pieces."""
        self._folder, self._parts = folder, parts
        self._files: list[list[Path]] = [[] for _ in range(parts)]
        self._schema: pl.Schema | None = None

    def __len__(self) -> int:
        return self._parts

    def add(self, rows: pl.DataFrame, by: pl.Expr | pl.Series) -> None:
        """Write rows to the parts that ``by``, a hash without nulls, sends them to."""
        self._schema = self._schema or rows.schema
        sent = rows.with_columns((by % self._parts).cast(pl.Int64).alias(_PART))
        for part, own in sent.partition_by(_PART, include_key=False, as_dict=True).items():
            files = self._files[int(part[0])]
            file = self._folder / f"{part[0]:05}-{len(files):05}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            own.write_parquet(file, compression="lz4", statistics=False)
            files.append(file)

    def stream(self, rows: pl.LazyFrame, by: pl.Expr) -> Spread:
        """Add the rows of a query, a block at a time."""
        self._schema = rows.collect_schema()
        for block in rows.collect_batches(chunk_size=BLOCK, maintain_order=False, engine="streaming"):
            self.add(block, by)
        return self

    def part(self, number: int) -> pl.LazyFrame:
        """The rows of one part."""
        return scan(self._files[number], self._schema)

    def remove(self) -> None:
        """Give the disk back; the table is gone."""
        shutil.rmtree(self._folder, ignore_errors=True)


def scan(files: list[Path], schema: pl.Schema | None) -> pl.LazyFrame:
    """Rows of files that were written here; of no file, none."""
    return pl.scan_parquet(files, glob=False) if files else pl.LazyFrame(schema=schema)
