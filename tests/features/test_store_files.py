"""Data files: the same bytes for the same rows, only declared columns, no debris."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.batches import STRETCH
from features.errors import BadWarehouse
from features.fingerprint import file_sha256, fingerprint
from features.lease import lease
from features.parquet import Rows
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from features.store import Store
from features.tables import Table

DAY = date(2026, 1, 5)
KEY = fingerprint("files")
TABLE = Table(
    "samples",
    pa.schema(
        [
            pa.field("user_id", pa.int64(), nullable=False),
            ("name", pa.string()),
            ("p", pa.float32()),
            ("emb", pa.list_(pa.float32())),
            ("tags", pa.list_(pa.string())),
        ]
    ),
)
SORTED = Table("by_user", TABLE.schema, sort_by=("user_id",))


def frame(rows: int) -> pl.DataFrame:
    number = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "user_id": number,
            "name": (number % 7).cast(pl.String),
            "p": (number / 3).cast(pl.Float32),
            "emb": [[float(n), 0.5] if n % 5 else None for n in range(rows)],
            "tags": [["a", None] if n % 2 else [] for n in range(rows)],
        },
        schema={
            "user_id": pl.Int64,
            "name": pl.String,
            "p": pl.Float32,
            "emb": pl.List(pl.Float32),
            "tags": pl.List(pl.String),
        },
    )


def write(root: Path, rows: Rows, table: Table = TABLE) -> Path:
    store = Store(root)
    with store.stage(table, DAY, KEY, record={"k": 1}) as shards:
        shards.write(rows)
    return store.commit(shards)[0].files[0]


def batches(whole: pl.DataFrame, size: int) -> Iterator[pa.RecordBatch]:
    return iter(whole.to_arrow().to_batches(max_chunksize=size))


def test_equal_rows_are_equal_bytes_however_they_arrive(tmp_path: Path) -> None:
    row_group = 5_000
    table = replace(TABLE, row_group=row_group)
    whole = frame(2 * row_group + 1_000)
    arrivals: list[Rows] = [
        whole,
        whole.lazy(),
        whole.to_arrow(),
        batches(whole, 777),
        batches(whole, 1 << 20),
        (part for part in whole.iter_slices(row_group)),
        (part for part in whole.iter_slices(4_321)),
        whole.with_columns(pl.col("name").cast(pl.Categorical)),
        whole.select(reversed(whole.columns)),
    ]
    digests = {file_sha256(write(tmp_path / str(n), rows, table)) for n, rows in enumerate(arrivals)}
    assert len(digests) == 1
    assert row_groups(write(tmp_path / "0", whole, table)) == [row_group, row_group, 1_000]


def row_groups(path: Path) -> list[int]:
    """Rows of every row group of a file."""
    told = pq.read_metadata(path)
    return [told.row_group(n).num_rows for n in range(told.num_row_groups)]


def test_samples_have_smaller_row_groups_than_what_analysts_and_the_fusion_job_read() -> None:
    assert (samples(SCENARIO).row_group, scores(SCENARIO).row_group) == (65_536, 131_072)
    assert samples(SCENARIO).row_group == STRETCH  # a scan that decodes every row group once


def test_polars_frames_are_sorted_and_streams_are_not(tmp_path: Path) -> None:
    mixed = frame(1_000).sample(fraction=1.0, shuffle=True, seed=1)
    for number, rows in enumerate((mixed, mixed.lazy())):
        read = pq.read_table(write(tmp_path / str(number), rows, SORTED), partitioning=None)
        assert read["user_id"].to_pylist() == list(range(1_000))
    read = pq.read_table(write(tmp_path / "stream", batches(mixed, 100), SORTED), partitioning=None)
    assert read["user_id"].to_pylist() == mixed["user_id"].to_list()


def test_columns_are_encoded_as_measured_best(tmp_path: Path) -> None:
    path = write(tmp_path, frame(5_000))
    group = pq.read_metadata(path).row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        float_ = column.path_in_schema in ("p", "emb.list.element")
        assert column.compression == "ZSTD"
        assert ("BYTE_STREAM_SPLIT" in column.encodings) == float_, column.path_in_schema
        assert column.has_dictionary_page != float_
    footer = pq.read_metadata(path).metadata
    assert footer[b"funnelcast"] == b'{"k":1}'


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda f: f.drop("p"), "missing column 'p'"),
        (lambda f: f.with_columns(dt=pl.lit(DAY)), "unexpected column 'dt'"),
        (
            lambda f: f.with_columns(pl.col("user_id").cast(pl.Int32)),
            "column 'user_id' is int32, declared int64",
        ),
        (lambda f: f.with_columns(pl.col("p").cast(pl.Float64)), "column 'p' is double, declared float"),
        (lambda f: f.with_columns(user_id=pl.col("user_id").cast(pl.String)), "'user_id' is large_string"),
        (lambda f: f.with_columns(name=pl.lit(None)), "column 'name' is null, declared string"),
        (lambda f: f.with_columns(emb=pl.col("emb").cast(pl.List(pl.Float64))), "column 'emb' is"),
        (lambda f: f.with_columns(user_id=pl.lit(None, pl.Int64)), "column 'user_id' holds nulls"),
    ],
)
def test_only_declared_columns_are_written(tmp_path: Path, change, fault: str) -> None:  # noqa: ANN001
    for rows in (change(frame(10)), change(frame(10).lazy()), change(frame(10)).to_arrow()):
        with pytest.raises(BadWarehouse, match=fault) as caught:
            write(tmp_path, rows)
        assert "samples/dt=2026-01-05" in str(caught.value)
    assert Store(tmp_path).days(TABLE) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "_locks" not in path.parts] == []


def test_a_failed_block_leaves_nothing_to_commit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    block = store.stage(TABLE, DAY, KEY, record={})
    shards = block.__enter__()
    shards.write(frame(3))
    with pytest.raises(RuntimeError, match="after the"):
        store.commit(shards)
    error = RuntimeError("boom")
    assert not block.__exit__(RuntimeError, error, error.__traceback__)
    with pytest.raises(RuntimeError, match="after the"):
        store.commit(shards)
    assert list((tmp_path / "_staging").iterdir()) == []
    with store.stage(TABLE, DAY, KEY, record={}) as shards:
        shards.write(frame(3), shard=2)
        for shard in (2, -1, 100_000):
            with pytest.raises(ValueError, match="Shard must be new"):
                shards.write(frame(3), shard=shard)
    with pytest.raises(ValueError, match="one table"):
        store.commit([])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = write(tmp_path, frame(3))
    block = store.stage(TABLE, DAY, fingerprint("more"), record={})
    shards = block.__enter__()
    (workspace,) = [path for path in (tmp_path / "_staging").iterdir() if path.is_dir()]
    (workspace / "00000.parquet").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        shards.write(frame(100))
    assert caught.value.errno == errno.ENOSPC
    assert not block.__exit__(OSError, caught.value, None)
    assert list((tmp_path / "_staging").iterdir()) == []
    assert list(tmp_path.rglob("*.parquet")) == [before]


def test_debris_of_a_dead_writer_is_swept_and_a_living_one_is_not_disturbed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = (
        "import os, sys, signal; from datetime import date; import pyarrow as pa;"
        "from features.store import Store; from features.tables import Table;"
        "t = Table('samples', pa.schema([('a', pa.int64())]));"
        "context = Store(sys.argv[1]).stage(t, date(2026, 1, 5), '0' * 16, record={});"
        "context.__enter__().write(pa.table({'a': [1]})); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    left = {path.suffix for path in (tmp_path / "_staging").iterdir()}
    assert left == {"", ".lock"}
    with store.stage(TABLE, DAY, KEY, record={}) as living:
        assert len(list((tmp_path / "_staging").iterdir())) == 2  # its own; the dead one's are gone
        with store.stage(TABLE, date(2026, 1, 6), KEY, record={}) as later:
            later.write(frame(1))
        living.write(frame(2))
    assert store.commit([living, later])[0].rows == 2
    assert list((tmp_path / "_staging").iterdir()) == []


def test_a_workspace_in_use_by_its_lock_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "_staging"
    (home / "abc").mkdir(parents=True)
    with lease(home / "abc.lock"), Store(tmp_path).stage(TABLE, DAY, KEY, record={}):
        assert (home / "abc").is_dir()
    (home / "abc.lock").touch()
    with Store(tmp_path).stage(TABLE, DAY, KEY, record={}):
        assert not (home / "abc").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": pa.schema([("a", pa.uint32())])}, "cannot hold uint32"),
        ({"schema": pa.schema([("a", pa.timestamp("ms"))])}, "cannot hold timestamp"),
        ({"schema": pa.schema([("a", pa.timestamp("us", tz="UTC"))])}, "cannot hold timestamp"),
        ({"schema": pa.schema([("a", pa.large_string())])}, "cannot hold large_string"),
        ({"schema": pa.schema([("a", pa.int8()), ("a", pa.int8())])}, "distinct"),
        ({"schema": pa.schema([("dt", pa.date32())])}, "not partition columns"),
        ({"schema": pa.schema([("a b", pa.int8())])}, "column must match"),
        ({"sort_by": ("b",)}, r"name \['b'\]"),
        ({"columns": {"b": "?"}}, r"name \['b'\]"),
        ({"partition_by": ("line",)}, "partitions are 'dt'"),
        ({"partition_by": ("dt", "a/b")}, "partitions are 'dt'"),
        ({"row_group": 0}, "a row group needs a row"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(change: dict[str, object], fault: str) -> None:
    settings = {"name": "t", "schema": pa.schema([("a", pa.int8())])} | change
    with pytest.raises(ValueError, match=fault):
        Table(**settings)  # type: ignore[arg-type]
