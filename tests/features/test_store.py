"""What a reader of the warehouse may rely on, in one process."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from polars.testing import assert_frame_equal

from features.errors import BadWarehouse, Busy, ChecksumMismatch
from features.fingerprint import fingerprint
from features.generation import Generation
from features.store import Store
from features.tables import Table

MONDAY, TUESDAY, WEDNESDAY = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)
SAMPLES = Table(
    "samples",
    pa.schema(
        [("user_id", pa.int64()), ("name", pa.string()), ("p", pa.float32()), ("at", pa.timestamp("us"))]
    ),
    sort_by=("user_id",),
)
SCORES = Table(
    "scores", pa.schema([("user_id", pa.int64()), ("p", pa.float64())]), partition_by=("dt", "line")
)
RUNS = Table("runs", pa.schema([("run", pa.string()), ("rows", pa.int64())]))


def samples(*users: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": users,
            "name": [None if user == 0 else f"u{user}" for user in users],
            "p": [user / 8 for user in users],
            "at": [datetime(2026, 1, 5, 12) + timedelta(microseconds=user) for user in users],
        },
        schema={"user_id": pl.Int64, "name": pl.String, "p": pl.Float32, "at": pl.Datetime("us")},
    )


def put(store: Store, day: date, *users: int, key: object = None) -> Generation:
    with store.stage(SAMPLES, day, fingerprint(key or users), record={"users": list(users)}) as shards:
        shards.write(samples(*users))
    return store.commit(shards)[0]


def put_scores(store: Store, day: date, **lines: float) -> tuple[Generation, ...]:
    staged = []
    for line, p in lines.items():
        with store.stage(SCORES, day, fingerprint([line, p]), record={"p": p}, line=line) as shards:
            shards.write(pl.DataFrame({"user_id": [1, 2], "p": [p, p]}))
        staged.append(shards)
    return store.commit(staged)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "ware house ü")


def test_a_table_that_was_never_written_is_empty_and_typed(store: Store) -> None:
    frame = store.scan(SAMPLES).collect()
    assert frame.schema == {**samples().schema, "dt": pl.Date}
    assert frame.height == 0
    assert store.days(SAMPLES) == []
    assert store.generation(SAMPLES, MONDAY) is None
    assert store.generations(SCORES, MONDAY) == ()
    assert not store.root.exists()  # reading makes nothing


def test_what_is_written_is_read(store: Store) -> None:
    put(store, MONDAY, 3, 0, 1)
    expected = samples(0, 1, 3).with_columns(dt=pl.lit(MONDAY))
    assert_frame_equal(store.scan(SAMPLES).collect(), expected)
    assert_frame_equal(store.scan(SAMPLES).collect(engine="streaming"), expected)
    got = (
        duckdb.connect()
        .execute(
            'SELECT count(*), max("at") FROM read_parquet($files)',
            {"files": [str(path) for path in store.paths(SAMPLES, store.snapshot(SAMPLES).files)]},
        )
        .fetchall()
    )
    assert got == [(3, datetime(2026, 1, 5, 12, 0, 0, 3))]


def test_scan_reads_the_days_that_were_asked_for(store: Store) -> None:
    put(store, TUESDAY, 2)
    put(store, MONDAY, 1)
    put(store, WEDNESDAY, 3)
    assert store.days(SAMPLES) == [MONDAY, TUESDAY, WEDNESDAY]

    def users(days: list[date] | None) -> list[int]:
        return store.scan(SAMPLES, days).collect()["user_id"].to_list()

    assert users(None) == [1, 2, 3]
    assert users([TUESDAY]) == [2]
    assert users([WEDNESDAY, MONDAY]) == [1, 3]
    assert users([]) == []
    assert users([date(2020, 1, 1)]) == []
    by_hand = store.scan(SAMPLES).filter(pl.col("dt") == MONDAY).select("user_id", "dt").collect()
    assert by_hand.rows() == [(1, MONDAY)]


def test_replacing_a_day_leaves_the_others_alone(store: Store) -> None:
    put(store, MONDAY, 1, 2, 3)
    other = put(store, TUESDAY, 4)
    before = store.scan(SAMPLES, [MONDAY])
    put(store, MONDAY, 9)
    assert store.scan(SAMPLES, [MONDAY]).collect()["user_id"].to_list() == [9]
    assert store.generation(SAMPLES, TUESDAY) == other
    assert before.collect()["user_id"].to_list() == [1, 2, 3]  # opened before: the old day, whole


def test_the_record_of_a_generation_comes_back(store: Store) -> None:
    start = datetime.now(UTC).replace(tzinfo=None) - timedelta(milliseconds=1)
    record = {"inputs": {"b": 1, "a": [1, None]}, "code": "é"}
    with store.stage(SAMPLES, MONDAY, fingerprint("k"), record=record) as shards:
        shards.write(samples(1), shard=1)
        shards.write(samples(5, 4), shard=0)
    (committed,) = store.commit(shards)
    found = store.generation(SAMPLES, MONDAY)
    assert found == committed
    assert found is not None
    assert (found.key, found.record, found.rows) == (fingerprint("k"), record, 3)
    assert [path.name[:23] for path in found.files] == [
        f"{found.key}-00000-"[:23],
        f"{found.key}-00001-"[:23],
    ]
    assert start <= found.committed_at <= datetime.now(UTC).replace(tzinfo=None)
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [4, 5, 1]  # by shard, sorted within
    found.verify()


def test_several_lines_are_replaced_in_one_commit(store: Store) -> None:
    put_scores(store, MONDAY, a=0.1, b=0.1, c=0.1)
    put_scores(store, TUESDAY, a=0.5)
    version = store.snapshot(SCORES).version
    got = put_scores(store, MONDAY, a=0.2, b=0.2)
    assert store.snapshot(SCORES).version == version + 1
    assert [generation.partition.values["line"] for generation in got] == ["a", "b"]
    by_line = store.scan(SCORES, [MONDAY]).group_by("line").agg(pl.col("p").mean()).sort("line").collect()
    assert by_line.rows() == [("a", 0.2), ("b", 0.2), ("c", 0.1)]
    assert (
        store.scan(SCORES, line="a").collect().select("dt", "p").rows()
        == [(MONDAY, 0.2)] * 2 + [(TUESDAY, 0.5)] * 2
    )
    assert [g.partition.values["line"] for g in store.generations(SCORES, MONDAY)] == ["a", "b", "c"]
    assert store.days(SCORES, line="b") == [MONDAY]


def test_several_days_are_restated_in_one_commit(store: Store) -> None:
    put(store, MONDAY, 1)
    put(store, WEDNESDAY, 3)
    staged = []
    for day, user in ((MONDAY, 10), (TUESDAY, 20)):
        with store.stage(SAMPLES, day, fingerprint(user), record={}) as shards:
            shards.write(samples(user))
        staged.append(shards.staged)
    version = store.snapshot(SAMPLES).version
    store.commit(staged)
    assert store.snapshot(SAMPLES).version == version + 1
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [10, 20, 3]


def test_committing_the_live_key_again_is_a_no_op(store: Store) -> None:
    first = put(store, MONDAY, 1, 2)
    before = store.snapshot(SAMPLES)
    assert put(store, MONDAY, 1, 2) == first
    assert store.snapshot(SAMPLES) == before


def test_returning_to_an_earlier_key_works(store: Store) -> None:
    put(store, MONDAY, 1)
    put(store, MONDAY, 2)
    put(store, MONDAY, 1)
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [1]


def test_a_partition_without_rows_is_live(store: Store) -> None:
    generation = put(store, MONDAY)
    assert (generation.rows, len(generation.files)) == (0, 1)
    with store.stage(SAMPLES, TUESDAY, fingerprint("nothing written"), record={}) as shards:
        pass
    assert store.commit(shards)[0].rows == 0
    put(store, WEDNESDAY, 1)
    assert store.days(SAMPLES) == [MONDAY, TUESDAY, WEDNESDAY]
    assert store.scan(SAMPLES, [MONDAY]).collect().schema == store.scan(SAMPLES).collect_schema()
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [1]


def test_expectation_refuses_what_changed_meanwhile(store: Store) -> None:
    with store.stage(SAMPLES, MONDAY, fingerprint("mine"), record={}) as shards:
        shards.write(samples(7))
    other = put(store, MONDAY, 1)
    with pytest.raises(Busy, match=other.key):
        store.commit(shards, expect=None)
    assert store.generation(SAMPLES, MONDAY) == other
    (mine,) = store.commit(shards, expect=other)
    assert store.commit(shards, expect=other) == (mine,)  # landed already: a repeat, not a conflict


def test_expectation_speaks_of_each_line(store: Store) -> None:
    seen = put_scores(store, MONDAY, a=0.1)
    with store.stage(SCORES, MONDAY, fingerprint("a2"), record={}, line="a") as a:
        a.write(pl.DataFrame({"user_id": [1], "p": [0.2]}))
    with store.stage(SCORES, MONDAY, fingerprint("b2"), record={}, line="b") as b:
        b.write(pl.DataFrame({"user_id": [1], "p": [0.2]}))
    put_scores(store, MONDAY, b=0.9)
    with pytest.raises(Busy, match="line=b"):
        store.commit([a, b], expect=seen)
    assert len(store.commit([a, b], expect=store.generations(SCORES, MONDAY))) == 2


def test_workers_hand_their_shards_to_one_committer(store: Store) -> None:
    parts = []
    for worker in range(3):
        with store.stage(SAMPLES, MONDAY, fingerprint("day"), record={"n": 3}) as shards:
            shards.write(samples(worker), shard=worker)
        parts.append(pickle.loads(pickle.dumps(shards.staged)))  # noqa: S301 - as between processes
    (generation,) = store.commit(parts)
    assert (generation.rows, len(generation.files)) == (3, 3)
    with pytest.raises(ValueError, match="shard twice"):
        store.commit([parts[0], parts[0]])


def test_an_added_column_reads_as_null_in_older_days(store: Store) -> None:
    put(store, MONDAY, 1)
    wide = Table(
        "samples", pa.schema([pa.field("price", pa.float64()), *SAMPLES.schema]), sort_by=("user_id",)
    )
    assert store.scan(wide).collect()["price"].to_list() == [None]  # before the first wide day
    with store.stage(wide, TUESDAY, fingerprint("wide"), record={}) as shards:
        shards.write(samples(2).with_columns(price=pl.lit(1.5)))
    store.commit(shards)
    assert store.scan(wide).select("user_id", "price").collect().rows() == [(1, None), (2, 1.5)]
    assert store.scan(SAMPLES).collect().columns == [*SAMPLES.schema.names, "dt"]  # older code still reads
    put(store, WEDNESDAY, 3)  # and writes
    assert store.scan(wide).collect()["price"].to_list() == [None, 1.5, None]


def test_a_column_never_changes_its_type(store: Store) -> None:
    put(store, MONDAY, 1)
    other = Table("samples", pa.schema([("user_id", pa.int32())]))
    with store.stage(other, TUESDAY, fingerprint("x"), record={}) as shards:
        shards.write(pl.DataFrame({"user_id": [1]}, schema={"user_id": pl.Int32}))
    with pytest.raises(BadWarehouse, match=r"'user_id' is .*long.* declared .*integer"):
        store.commit(shards)
    required = Table("samples", pa.schema([*SAMPLES.schema, pa.field("z", pa.int32(), nullable=False)]))
    with store.stage(required, TUESDAY, fingerprint("x"), record={}) as shards:
        pass
    with pytest.raises(BadWarehouse, match=r"'z'.*without nulls"):
        store.commit(shards)
    cut = Table("samples", SAMPLES.schema, partition_by=("dt", "line"))
    with store.stage(cut, TUESDAY, fingerprint("x"), record={}, line="a") as shards:
        pass
    with pytest.raises(BadWarehouse, match="partitioned by"):
        store.commit(shards)
    assert store.days(SAMPLES) == [MONDAY]


def test_the_ledger_grows_and_a_repeated_row_does_not_count_twice(store: Store) -> None:
    one, two = pl.DataFrame({"run": ["a"], "rows": [1]}), pl.DataFrame({"run": ["b"], "rows": [2]})
    store.append(RUNS, MONDAY, one)
    store.append(RUNS, MONDAY, two)
    store.append(RUNS, MONDAY, one)
    store.append(RUNS, TUESDAY, one)
    rows = store.scan(RUNS).sort("dt", "run").select("run", "dt").collect().rows()
    assert rows == [("a", MONDAY), ("b", MONDAY), ("a", TUESDAY)]
    with pytest.raises(BadWarehouse, match="several generations"):
        store.generation(RUNS, MONDAY)


def test_tables_may_be_nested(store: Store) -> None:
    events = Table("events/exposure", RUNS.schema)
    store.append(events, MONDAY, pl.DataFrame({"run": ["a"], "rows": [1]}))
    assert store.scan(events).collect().height == 1
    assert (store.root / "events" / "exposure" / "dt=2026-01-05").is_dir()


@pytest.mark.parametrize("line", ["../b", "a/b", "", ".", "..", "a b", "a\n", "a=b", "*", "x" * 99])
def test_no_line_leaves_its_folder(store: Store, line: str) -> None:
    with (
        pytest.raises(ValueError, match="Partition value"),
        store.stage(SCORES, MONDAY, "0" * 16, record={}, line=line),
    ):
        pass
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/", "A", "_locks", "a/../b", "a.b", "a=b"])
def test_no_table_leaves_the_warehouse(name: str) -> None:
    with pytest.raises(ValueError, match="Table name"):
        Table(name, RUNS.schema)


def test_no_link_leaves_the_warehouse(store: Store, tmp_path: Path) -> None:
    store.root.mkdir()
    (tmp_path / "outside").mkdir()
    (store.root / "samples").symlink_to(tmp_path / "outside")
    with pytest.raises(BadWarehouse, match="outside the warehouse"):
        store.scan(SAMPLES)


def test_a_warehouse_path_is_never_a_pattern(tmp_path: Path) -> None:
    for name in ("a*", "a[1]", "dt=2026", "a%20b"):
        with pytest.raises(BadWarehouse, match="plainer folder"):
            Store(tmp_path / name)


def test_partitions_and_keys_are_named_as_declared(store: Store) -> None:
    with pytest.raises(ValueError, match="partitioned by"):
        store.generation(SCORES, MONDAY)
    with pytest.raises(ValueError, match="partitioned by"):
        store.generation(SAMPLES, MONDAY, line="a")
    put(store, MONDAY, 1)
    with pytest.raises(ValueError, match="partitioned by"):
        store.days(SAMPLES, line="a")
    with pytest.raises(ValueError, match="named by a date"):
        store.generation(SAMPLES, datetime(2026, 1, 5))
    with (
        pytest.raises(ValueError, match="16 hex digits"),
        store.stage(SAMPLES, MONDAY, "../../etc", record={}),
    ):
        pass


def test_a_damaged_file_is_found_and_healed(store: Store) -> None:
    generation = put(store, MONDAY, *range(100))
    path = generation.files[0]
    sound = path.read_bytes()
    path.write_bytes(sound[:50] + bytes([sound[50] ^ 1]) + sound[51:])
    found = store.generation(SAMPLES, MONDAY)
    assert found is not None
    with pytest.raises(ChecksumMismatch, match=path.name):
        found.verify()
    put(store, MONDAY, *range(100))
    found.verify()
    path.write_bytes(sound[:70])
    with pytest.raises(BadWarehouse, match="70 bytes, committed"):
        store.generation(SAMPLES, MONDAY)
    path.unlink()
    with pytest.raises(BadWarehouse, match="None bytes, committed"):
        store.generation(SAMPLES, MONDAY)
    put(store, MONDAY, *range(100))
    assert path.read_bytes() == sound


def test_a_log_torn_by_a_power_loss_says_what_to_remove(store: Store) -> None:
    put(store, MONDAY, 1)
    put(store, MONDAY, 2)
    newest = max((store.root / "samples" / "_delta_log").glob("*.json"))
    os.truncate(newest, 10)
    with pytest.raises(BadWarehouse, match=f"{newest.name} is cut short, remove it"):
        store.days(SAMPLES)
    newest.unlink()
    put(store, MONDAY, 2)
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [2]


def test_a_log_entry_without_bytes_is_a_commit_that_never_was(store: Store) -> None:
    put(store, MONDAY, 1)
    put(store, MONDAY, 2)
    os.truncate(max((store.root / "samples" / "_delta_log").glob("*.json")), 0)
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [1]
    put(store, MONDAY, 2)
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [2]


def test_files_of_another_program_are_not_taken_for_ours(store: Store) -> None:
    put(store, MONDAY, 1)
    rows = samples(5).with_columns(dt=pl.lit(MONDAY)).to_arrow()
    write_deltalake(store.root / "samples", rows, mode="append")
    with pytest.raises(BadWarehouse, match="Not a data file of this store"):
        store.days(SAMPLES)


def test_the_commit_says_which_generation_it_published(store: Store) -> None:
    generation = put(store, MONDAY, 1)
    newest = DeltaTable(store.root / "samples").history(1)[0]
    assert newest["generations"] == f'{{"dt=2026-01-05": "{generation.key}"}}'


def test_many_commits_and_checkpoints_keep_one_live_file(store: Store) -> None:
    for number in range(25):
        put(store, MONDAY, number)
    assert [file.rows for file in store.snapshot(SAMPLES).files] == [1]
    assert (store.root / "samples" / "_delta_log" / "_last_checkpoint").exists()
    assert store.scan(SAMPLES).collect()["user_id"].to_list() == [24]


def test_a_store_travels_to_other_processes(store: Store) -> None:
    put(store, MONDAY, 1)
    assert pickle.loads(pickle.dumps(store)).days(SAMPLES) == [MONDAY]  # noqa: S301
