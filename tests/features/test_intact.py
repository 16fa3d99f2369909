"""A single flipped bit: what engines make of it, and that none of it comes through the store."""

from __future__ import annotations

import os
import random
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from features import intact
from features.errors import BadWarehouse, ChecksumMismatch, FunnelcastError
from features.store import Store
from features.tables import Table

DAY = date(2026, 1, 5)
TABLE = Table(
    "samples",
    pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("p", pa.float32()), ("name", pa.string())]),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    chance = random.Random(7)
    frame = pl.DataFrame(
        {
            "user_id": [2**53 + chance.randrange(500) for _ in range(4000)],
            "item_id": [chance.randrange(2**40) for _ in range(4000)],
            "p": [chance.random() for _ in range(4000)],
            "name": [f"n{chance.randrange(90)}" for _ in range(4000)],
        },
        schema_overrides={"p": pl.Float32},
    )
    store = Store(tmp_path)
    with store.stage(TABLE, DAY, "0123456789abcdef", record={}) as shards:
        shards.write(frame)
    store.commit(shards)
    return store


def the_file(store: Store) -> Path:
    (file,) = store.paths(TABLE, store.snapshot(TABLE).files)
    return file


def flip(file: Path, bit: int) -> None:
    """One bit of a file, in place: neither its size nor its inode changes."""
    with file.open("r+b") as stream:
        stream.seek(bit // 8)
        old = stream.read(1)[0]
        stream.seek(bit // 8)
        stream.write(bytes([old ^ 1 << bit % 8]))


def test_F24_no_flipped_bit_comes_through_and_most_would_have_been_read_without_a_word(store: Store) -> None:
    file = the_file(store)
    true = pl.read_parquet(file)
    chance, tried, unseen = random.Random(24), 60, {"polars": 0, "duckdb": 0}
    for _ in range(tried):
        bit = chance.randrange(file.stat().st_size * 8)
        flip(file, bit)
        # The footer is read first by whoever plans; all that is allowed of both is a typed refusal.
        with pytest.raises(ChecksumMismatch, match=file.name):
            store.scan(TABLE, [DAY])
        with pytest.raises((ChecksumMismatch, BadWarehouse)):
            _ = store.generation(TABLE, DAY).files  # type: ignore[union-attr]
        for engine in unseen:
            unseen[engine] += reads_something_else(engine, file, true)
        flip(file, bit)
    assert store.scan(TABLE, [DAY]).drop("dt").collect().equals(true)
    # Why all this: otherwise these would be training data.
    assert unseen["polars"] + unseen["duckdb"] > tried // 2, unseen


def reads_something_else(engine: str, file: Path, true: pl.DataFrame) -> bool:
    try:
        if engine == "polars":
            found = pl.read_parquet(file)
        else:
            found = duckdb.connect().execute("FROM read_parquet($f)", {"f": str(file)}).pl()
    except (Exception, pl.exceptions.PanicException):
        return False
    return not found.equals(true)


def test_a_file_is_hashed_once_a_process_until_it_is_touched(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = the_file(store)
    os.utime(file, ns=(0, 10**18))  # long ago, by its clock
    hashed: list[Path] = []
    real = intact.file_sha256
    monkeypatch.setattr(intact, "file_sha256", lambda path: hashed.append(path) or real(path))
    for _ in range(3):
        store.scan(TABLE, [DAY]).collect()
    assert hashed == [file]
    flip(file, 800)
    with pytest.raises(ChecksumMismatch, match="committed"):
        store.scan(TABLE, [DAY])
    with pytest.raises(ChecksumMismatch):  # what was refused is not remembered as sound
        store.scan(TABLE, [DAY])


def test_a_file_that_was_just_written_is_hashed_again(store: Store) -> None:
    """Two writes within one tick of the kernel's clock leave one stamp."""
    file = the_file(store)
    store.scan(TABLE, [DAY])
    told = file.stat()
    flip(file, 800)
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    with pytest.raises(ChecksumMismatch):
        store.scan(TABLE, [DAY])


def test_a_live_file_that_is_gone_is_named_with_its_remedy(store: Store) -> None:
    file = the_file(store)
    file.unlink()
    with pytest.raises(BadWarehouse, match=r"a live file is gone.*make dt=2026-01-05 again") as caught:
        store.scan(TABLE, [DAY])
    assert isinstance(caught.value, FunnelcastError)
    assert str(file) in str(caught.value)
