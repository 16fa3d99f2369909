"""Impressions of a planted funnel: 20 id fields, 8 quantities, a click and a conversion given the click.

The id fields have 10 to 500,000 ids each, 1.27 million in all, seen by a Zipf-like law. Every id has an
effect on the click and one on the conversion, and some pairs of fields act together, so that a network has
something to find that a linear model has not. Of the impressions 4 % are clicked, and 5 % of the clicks
convert. Rows are made in blocks; a block depends on the seed and its number alone.

    python benchmarks/throughput_data.py FILE --rows 2000000 --seed 1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from features import batches
from features.samples import ROW_GROUP

CARDINALITIES = (
    *(500_000, 300_000, 200_000, 100_000, 60_000, 40_000, 30_000, 20_000, 10_000, 5_000),
    *(3_000, 1_000, 500, 200, 100, 50, 30, 20, 15, 10),
)
FIELDS = tuple(f"f{place}" for place in range(len(CARDINALITIES)))
QUANTITIES = tuple(f"d{place}" for place in range(8))
SIZES = dict(zip(FIELDS, CARDINALITIES, strict=True))
LABELS = ("y_click", "y_conversion")
COLUMNS = {*FIELDS, *QUANTITIES, *LABELS, "exposed_at"}
BLOCK = 100_000
_RATES = (0.04, 0.05)
_FACTORS = 4


def sizes(most_ids: int | None = None, more_rows: int = 0) -> dict[str, int]:
    """Rows of the table by field: an id each, at most ``most_ids`` a field; ``more_rows`` that no id owns."""
    folded = {name: count if most_ids is None else min(count, most_ids) for name, count in SIZES.items()}
    return folded | {FIELDS[0]: folded[FIELDS[0]] + more_rows}


class _Truth:
    """What the ids and quantities do, by objective."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        # what is common to both objectives makes learning them together worth it
        common = [rng.normal(0, 0.25, (n, 1)) for n in CARDINALITIES]
        self.effects = [one + rng.normal(0, 0.15, (len(one), 2)) for one in common]
        self.factors = [rng.normal(0, 0.5, (n, _FACTORS)) for n in CARDINALITIES]
        self.slopes = rng.normal(0, 0.3, (len(QUANTITIES), 2))
        self.pairs = rng.permutation(len(CARDINALITIES)).reshape(-1, 2)
        self.base = np.zeros(2)
        self.base = self._base(*_inputs(np.random.default_rng([seed, 2])))

    def logits(self, ids: np.ndarray, quantities: np.ndarray) -> np.ndarray:
        """Logits of the click, and of the conversion given it, (B, 2)."""
        logits = self.base + np.tanh(quantities) @ self.slopes
        for place, effect in enumerate(self.effects):
            logits += effect[ids[:, place]]
        for first, second in self.pairs:
            together = self.factors[first][ids[:, first]] * self.factors[second][ids[:, second]]
            logits += together.sum(axis=1, keepdims=True)
        return logits

    def _base(self, ids: np.ndarray, quantities: np.ndarray) -> np.ndarray:
        """Intercepts that give the wanted rates: of the head ids alone the seed decides how much they do."""
        logits = self.logits(ids, quantities)
        low, high = np.full(2, -30.0), np.full(2, 30.0)
        for _ in range(50):
            middle = (low + high) / 2
            chance = _sigmoid(logits + middle)
            rates = chance[:, 0].mean(), (chance[:, 0] * chance[:, 1]).sum() / chance[:, 0].sum()
            too_high = np.asarray(rates) > _RATES
            low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
        return (low + high) / 2


def blocks(rows: int, seed: int, first: int = 0) -> Iterator[pl.DataFrame]:
    """Rows ``first .. first + rows``, whole blocks at a time; both are multiples of ``BLOCK``.

    Raises:
        ValueError: they are not.
    """
    if rows % BLOCK or first % BLOCK:
        raise ValueError(f"Rows come in blocks of {BLOCK}, got {rows} from {first}.")
    truth = _Truth(seed)
    for start in range(first, first + rows, BLOCK):
        rng = np.random.default_rng([seed, 1, start])
        ids, quantities = _inputs(rng)
        happened = rng.random((BLOCK, 2)) < _sigmoid(truth.logits(ids, quantities))
        columns: dict[str, np.ndarray] = {name: ids[:, place] for place, name in enumerate(FIELDS)}
        columns |= {name: quantities[:, place] for place, name in enumerate(QUANTITIES)}
        columns["exposed_at"] = np.arange(start, start + BLOCK).astype("datetime64[us]")
        columns["y_click"] = happened[:, 0].astype(np.int8)
        columns["y_conversion"] = (happened[:, 0] & happened[:, 1]).astype(np.int8)
        yield pl.DataFrame(columns)


def write(path: Path, rows: int, seed: int, first: int = 0, most_ids: int | None = None) -> Path:
    """The rows as one Parquet file, written row group by row group; one of the same form is kept.

    With ``most_ids``, the ids of a field are folded into as many.
    """
    if path.exists() and _form(path) == (COLUMNS, min(rows, ROW_GROUP)):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    folded = [] if most_ids is None else [pl.col(name) % most_ids for name in FIELDS]
    made = (block.lazy().with_columns(folded) for block in blocks(rows, seed, first))
    # in the row groups of our own samples
    groups = (group.to_arrow() for group in batches.blocks(made, ROW_GROUP))
    table = next(groups)
    with pq.ParquetWriter(unfinished, table.schema, compression="zstd", compression_level=1) as writer:
        for group in chain((table,), groups):
            writer.write_table(group)
    return unfinished.rename(path)


def _form(path: Path) -> tuple[set[str], int]:
    """Columns of a file, and rows of its first row group."""
    told = pq.read_metadata(path)
    return set(told.schema.to_arrow_schema().names), told.row_group(0).num_rows


def _inputs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ids = np.empty((BLOCK, len(CARDINALITIES)), dtype=np.int64)
    for place, count in enumerate(CARDINALITIES):
        # the inverse of a log-uniform law: few ids are seen often, most of them rarely
        ids[:, place] = np.floor((count + 1) ** rng.random(BLOCK)).astype(np.int64) - 1
    return ids, rng.normal(size=(BLOCK, len(QUANTITIES))).astype(np.float32)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    write(asked.file, asked.rows, asked.seed)
