"""A real day and its real warehouse: nothing is unpickled, nobody is called, no question leads out of it."""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from fault_house import FIRST, open_house
from safetensors.torch import load_file
from watched_day import Watch, Watched

from features.bookkeeping import MODELS
from features.errors import BadWarehouse, FunnelcastError, UsageError
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from flows import recipes
from flows.house import House
from flows.query import ask
from flows.room import BESIDE, bounded
from flows.stages import read, sample, view
from flows.stages.version import load, version_of
from models.checkpoint import TENSORS
from models.tensor_header import shapes


class Bomb:
    """What a pickle may be: a call of anything, made when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (self.place,)  # type: ignore[return-value]


@pytest.fixture
def house(watched: Watched, tmp_path: Path) -> House:
    """A copy to spoil."""
    shutil.copytree(watched.house.settings.warehouse.parent, tmp_path, dirs_exist_ok=True)
    return open_house(tmp_path)


def test_a_day_unpickles_nothing_starts_nothing_and_calls_nobody(watched: Watched) -> None:
    assert watched.seen == ()
    assert ask(watched.house, "SELECT count(*) > 0 FROM scores").rows == [(True,)]


def test_the_watch_sees_what_it_is_there_for(watch: Watch, tmp_path: Path) -> None:
    """Else the test above would hold of anything."""
    before = len(watch.seen)
    watch.on = True
    try:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "boom")))  # noqa: S301 - ours
        subprocess.run(["true"], check=True)
        with socket.socket() as one, pytest.raises(OSError, match=r".*"):
            one.connect(("127.0.0.1", 1))
    finally:
        watch.on = False
    seen, watch.seen[before:] = watch.seen[before:], []
    assert {event.split()[0] for event in seen} >= {"pickle.find_class", "subprocess.Popen", "socket.connect"}
    assert (tmp_path / "boom").exists()


def test_what_is_kept_is_json_parquet_safetensors_and_a_database(watched: Watched) -> None:
    """No file of the warehouse is a pickle, a zip of pickles (torch.save) or compiled code."""
    root = watched.house.store.root
    kinds: dict[str, set[bytes]] = {}
    for file in (file for file in root.rglob("*") if file.is_file() and "_locks" not in file.parts):
        kinds.setdefault(file.suffix or file.name, set()).add(file.read_bytes()[:4])
    assert kinds.pop(".parquet") == {b"PAR1"}
    assert all(head.startswith(b"{") for head in kinds.pop(".json"))
    assert set(kinds) == {".safetensors", ".duckdb"}
    (tensors,) = root.rglob(TENSORS)
    assert shapes(tensors).keys() == load_file(tensors).keys()
    duckdb.connect(watched.house.catalog, read_only=True).close()


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_opened(
    house: House, tmp_path: Path, watch: Watch
) -> None:
    (tensors,) = house.store.root.rglob(TENSORS)
    tensors.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    version = version_of(house, "esmm", FIRST)
    with pytest.raises(BadWarehouse, match="is not the file that was saved"):
        load(house, recipes.get("shop", "esmm"), version)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("way", ["../../outside", "/etc", "checkpoints/esmm"])
def test_a_checkpoint_outside_the_warehouse_is_not_read(house: House, tmp_path: Path, way: str) -> None:
    """By a row that names it (as whoever can write tables may write one), or by a link in its place."""
    root = house.store.root
    if way == "checkpoints/esmm":
        (root / way).rename(tmp_path / "outside")
        (root / way).symlink_to(tmp_path / "outside")
    else:
        row = house.store.scan(MODELS).drop("dt", "line").with_columns(checkpoint=pl.lit(way)).collect()
        with house.store.stage(MODELS, FIRST, "0" * 16, record={"inputs": {}}, line="esmm") as shards:
            shards.write(row)
        house.store.commit(shards)
    with pytest.raises(BadWarehouse, match="its checkpoint lies elsewhere"):
        version_of(house, "esmm", FIRST)


def test_a_lock_that_is_a_link_overwrites_nothing(house: House, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("not a lock", "utf-8")
    lock = house.store.root / "_locks" / "run.lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "precious")
    with pytest.raises(BadWarehouse, match=r"run\.lock: is a link"), house.store.lease("run"):
        pytest.fail("must not hold it")
    assert (tmp_path / "precious").read_text("utf-8") == "not a lock"


LEADING_OUT = [
    "SELECT getenv('HOME')",
    "FROM duckdb_secrets()",
    "FROM read_csv('/etc/passwd', header = false)",
    "FROM read_csv_auto(['/etc/passwd'])",
    "FROM read_json('/proc/self/environ')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_blob('file:///etc/passwd')",
    "FROM parquet_metadata('/etc/passwd')",
    "FROM parquet_schema('/etc/passwd')",
    "FROM glob('{root}/../**')",
    "FROM read_text('{root}/../secret.txt')",
    "FROM read_text('{root}//..//secret.txt')",
    "FROM read_text('{root}/./_locks/../../secret.txt')",
    "FROM read_text('{root}-sibling/secret.txt')",
    "FROM read_text('{root}/link')",
    "FROM read_text('{root}/folder/secret.txt')",
    "FROM read_text('{root}/\x00/../../secret.txt')",
    "FROM '{root}/../secret.txt'",
    "WITH a AS (FROM read_text('{root}/../secret.txt')) FROM a",
    "SELECT (SELECT content FROM read_text('{root}/../secret.txt'))",
    "FROM scores WHERE EXISTS (FROM read_text('{root}/../secret.txt'))",
    "FROM query('FROM read_text(''{root}/../secret.txt'')')",
    "FROM query_table(['{root}/../secret.txt'])",
    "FROM read_parquet('s3://bucket/x.parquet')",
    "FROM delta_scan('{root}/samples')",
    "FROM sqlite_scan('{root}/../.prefect/prefect.db', 'flow_run')",
    "FROM postgres_scan('host=127.0.0.1', 'public', 'x')",
    "SELECT * FROM sniff_csv('{root}/../secret.txt')",
    "FROM which_secret('s3://bucket', 's3')",
    "PRAGMA database_list; SELECT 1",
    "PRAGMA import_database('{root}')",
    "COPY scores TO '/tmp/evil.csv'",
    "COPY (FROM scores) TO '{root}/evil.parquet' (FORMAT parquet)",
    "IMPORT DATABASE '{root}'",
    "ATTACH '{root}/../evil.duckdb' AS evil",
    "ATTACH ':memory:' AS evil",
    "DETACH catalog",
    "INSTALL httpfs FROM 'http://127.0.0.1/'",
    "FORCE INSTALL spatial",
    "LOAD httpfs",
    "UPDATE EXTENSIONS",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE TABLE evil AS FROM scores",
    "CREATE OR REPLACE TEMP VIEW scores AS SELECT 1",
    "CREATE MACRO evil() AS 1",
    "INSERT INTO built_from VALUES ('a', 'b')",
    "DELETE FROM built_from",
    "UPDATE built_from SET state = ''",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "EXECUTE evil",
    "DEALLOCATE ALL",
    "SET memory_limit = '1TB'",
    "SET GLOBAL allowed_directories = ['/']",
    "SET VARIABLE x = 1",
    "RESET ALL",
    "EXPLAIN ANALYZE DELETE FROM built_from",
    "EXPLAIN (ANALYZE, FORMAT json) DELETE FROM built_from",
    "SELECT 1;;DROP VIEW scores",
    "SELECT 1 /* ; */; -- ;\nDROP VIEW scores",
    "\ufeffSELECT 1; DROP VIEW scores",
    "SELECT '\\'; DROP VIEW scores; --'",
]  # fmt: skip


@pytest.mark.parametrize("attack", LEADING_OUT)
def test_no_question_leads_out_of_the_tables_or_changes_them(
    watched: Watched, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = watched.house.store.root
    before = _places(root)
    monkeypatch.setenv("LAKE_TOKEN", "sesame-open")
    with pytest.raises(UsageError) as caught:
        ask(watched.house, attack.replace("{root}", str(root)))
    told = str(caught.value)
    assert "hunter2" not in told
    assert "sesame-open" not in told
    assert "\n" not in told
    assert {file.name: file.stat().st_mtime_ns for file in root.iterdir() if file.is_file()} == before
    assert not list(root.parent.rglob("evil*"))


@pytest.mark.parametrize("name", ["%2e%2e/secret.txt", "\uff0e\uff0e/secret.txt", "..%00/secret.txt"])
def test_a_spelling_of_the_way_out_is_a_name_like_any_other(watched: Watched, name: str) -> None:
    root = watched.house.store.root
    _places(root)
    assert ask(watched.house, f"FROM read_text('{root}/{name}')").rows == []


def _places(root: Path) -> dict[str, int]:
    """Lay out what an attack would like to read, and the files that it would like to change."""
    (root.parent / "secret.txt").write_text("hunter2", "utf-8")
    sibling = root.with_name(f"{root.name}-sibling")
    sibling.mkdir(exist_ok=True)
    (sibling / "secret.txt").write_text("hunter2", "utf-8")
    for name, to in (("link", root.parent / "secret.txt"), ("folder", sibling)):
        if not (root / name).is_symlink():
            (root / name).symlink_to(to)
    return {file.name: file.stat().st_mtime_ns for file in root.iterdir() if file.is_file()}


def test_a_question_takes_a_bounded_part_of_memory_and_disk(watched: Watched) -> None:
    poor = replace(watched.house, settings=watched.house.settings.model_copy(update={"memory_limit": "20MB"}))
    with (
        pytest.raises(UsageError, match=r"failed to allocate .*Next: ask for less"),
        bounded(poor.settings.memory_bytes + BESIDE),
    ):
        ask(poor, "SELECT repeat('x', 3000000000)")
    with pytest.raises(UsageError, match=r"max_temp_directory_size"):
        ask(
            poor,
            "SELECT sum(r) OVER (ORDER BY s) FROM (SELECT range r, md5(range::text) s FROM range(2000000))",
        )
    assert ask(poor, "SELECT 1").rows == [(1,)]


INJECTED = [
    "'; DROP VIEW scores; --",
    "' OR 1 = 1 --",
    "\\'; SELECT 1",
    "$value",
    "?",
    "\x00",
    "\u02bc OR 1=1",
]


def test_a_value_of_the_data_is_never_read_as_sql(house: House) -> None:
    """Items that are called so go from the log to the samples as they are."""
    file = house.logs / "exposure" / f"dt={FIRST}" / "part-0.parquet"
    rows = pl.read_parquet(file)
    names = pl.Series(INJECTED).sample(len(rows), with_replacement=True, seed=1)
    rows.with_columns(sku=pl.when(pl.int_range(pl.len()) < 400).then(names).otherwise("sku")).write_parquet(
        file
    )
    for stage in (read, view, sample):
        stage.run(house, FIRST, ())
    made = house.store.scan(samples(SCENARIO), [FIRST]).collect()["item_id"]
    assert set(INJECTED) <= set(made)


def test_a_log_root_that_is_spoiled_by_names_and_links_stops_the_day(house: House, tmp_path: Path) -> None:
    """A name that is a pattern would be read as other files; a link would read whatever it leads to."""
    folder = house.logs / "click" / f"dt={FIRST}"
    outside = tmp_path / "outside.parquet"
    shutil.copy(folder / "part-0.parquet", outside)
    for name, link in (("part-[01].parquet", None), ("*.parquet", None), ("part-1.parquet", outside)):
        if link is None:
            shutil.copy(outside, folder / name)
        else:
            (folder / name).symlink_to(link)
        with pytest.raises(FunnelcastError, match=r"E403 .*(for other names|out of the log root)"):
            read.run(house, FIRST, ())
        (folder / name).unlink()
    away = tmp_path / "away"
    folder.rename(away)
    folder.symlink_to(away)
    with pytest.raises(FunnelcastError, match=r"E403 .*out of the log root"):
        read.run(house, FIRST, ())
    folder.unlink()
    away.rename(house.logs / "click" / "elsewhere")
    folder.symlink_to(house.logs / "click" / "elsewhere")  # a link within the root is nobody's way out
    read.run(house, FIRST, ())


def test_days_beside_it_are_untouched(watched: Watched) -> None:
    assert watched.house.store.days(samples(SCENARIO)) == [FIRST]
    assert watched.house.store.days(scores(SCENARIO)) == [FIRST + timedelta(days=1)]
