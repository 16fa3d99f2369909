"""The catalogue as an analyst meets it: stock DuckDB, another folder, another process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from features.errors import BadWarehouse
from features.fingerprint import fingerprint
from features.store import Store
from features.tables import Table
from flows.catalog import CatalogView, rebuild

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
SCORES = Table(
    "scores",
    pa.schema([("user_id", pa.int64()), ("p", pa.float32()), ("at", pa.timestamp("us"))]),
    partition_by=("dt", "line"),
    description="One row per user; it's published daily.",
    columns={"p": "Probability per impression; don't add.", "dt": "Day that the scores are for."},
)
RUNS = Table("runs/ledger", pa.schema([("run", pa.string()), ("tags", pa.list_(pa.string()))]))
LATEST = "SELECT * FROM this WHERE dt = (SELECT max(dt) FROM this) -- the newest day"
VIEWS = (
    CatalogView("scores", SCORES),
    CatalogView("scores_latest", SCORES, LATEST, description="The newest day."),
    CatalogView("runs", RUNS),
)
ASK = (
    "import sys, json, duckdb\n"
    "with duckdb.connect(sys.argv[1], read_only=True, config={'autoload_known_extensions': False,"
    " 'autoinstall_known_extensions': False}) as c:\n"
    "    for query in sys.stdin:\n"
    "        print(json.dumps(c.execute(query).fetchall(), default=str), flush=True)\n"
)


class Analyst:
    """A process of its own, in a folder of its own, that keeps the catalogue open."""

    def __init__(self, catalog: Path, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASK, str(catalog)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, query: str) -> list[list[object]]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(query + "\n")
        stdin.flush()
        answer: list[list[object]] = json.loads(stdout.readline())
        return answer


@pytest.fixture
def analysts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Analyst]]:
    opened: list[Analyst] = []

    class Here(Analyst):
        def __init__(self, catalog: Path) -> None:
            super().__init__(catalog, tmp_path_factory.mktemp("elsewhere"))
            opened.append(self)

    yield Here  # type: ignore[misc]
    for analyst in opened:
        analyst.process.kill()
        analyst.process.communicate()


def put(store: Store, day: date, p: float, table: Table = SCORES) -> None:
    staged = []
    for line in ("1", "b"):  # a line that looks like a number stays text
        with store.stage(table, day, fingerprint([p, line]), record={}, line=line) as shards:
            frame = pl.DataFrame(
                {"user_id": [1, 2], "p": [p, p], "at": [datetime(2026, 1, 5)] * 2},
                schema_overrides={"p": pl.Float32, "at": pl.Datetime("us")},
            )
            if "extra" in table.schema.names:
                frame = frame.with_columns(extra=pl.lit("x"))
            shards.write(frame)
        staged.append(shards)
    store.commit(staged)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "it's a warehouse")


COUNTS = "SELECT dt, line, round(avg(p), 3), count(*) FROM scores GROUP BY ALL ORDER BY ALL"


def test_a_stock_process_elsewhere_reads_live_rows_only(store: Store, analysts: type[Analyst]) -> None:
    put(store, MONDAY, 0.5)
    put(store, TUESDAY, 0.25)
    put(store, MONDAY, 0.75)  # the files of 0.5 are still on disk
    analyst = analysts(rebuild(store, VIEWS))  # type: ignore[call-arg]
    expected = [["2026-01-05", "1", 0.75, 2], ["2026-01-05", "b", 0.75, 2]]
    expected += [["2026-01-06", "1", 0.25, 2], ["2026-01-06", "b", 0.25, 2]]
    assert analyst.ask(COUNTS) == expected
    assert analyst.ask("SELECT DISTINCT dt FROM scores_latest") == [["2026-01-06"]]
    assert analyst.ask("SELECT count(*) FROM scores WHERE dt = DATE '2026-01-05' AND line = 'b'") == [[2]]
    described = [row[:2] for row in analyst.ask("DESCRIBE scores")]
    assert described == [
        ["user_id", "BIGINT"],
        ["p", "FLOAT"],
        ["at", "TIMESTAMP"],
        ["dt", "DATE"],
        ["line", "VARCHAR"],
    ]


def test_views_and_columns_explain_themselves(store: Store) -> None:
    put(store, MONDAY, 0.5)
    with duckdb.connect(rebuild(store, VIEWS), read_only=True) as connection:
        views = connection.execute(
            "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        assert dict(views) == {
            "scores": SCORES.description,
            "scores_latest": "The newest day.",
            "runs": None,
        }
        columns = connection.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE comment IS NOT NULL"
        ).fetchall()
        assert sorted(columns) == [
            (view, column, SCORES.columns[column])
            for view in ("scores", "scores_latest")
            for column in ("dt", "p")
        ]
        tags = connection.execute(
            "SELECT tags FROM duckdb_databases() WHERE database_name = 'catalog'"
        ).fetchall()
        assert "v1.0.0" in str(tags)


def test_a_table_that_was_never_written_is_an_empty_typed_view(store: Store) -> None:
    with duckdb.connect(rebuild(store, VIEWS), read_only=True) as connection:
        for view in ("scores", "scores_latest", "runs"):
            assert connection.execute(f"SELECT * FROM {view}").fetchall() == []
        described = [row[:2] for row in connection.execute("DESCRIBE runs").fetchall()]
        assert described == [("run", "VARCHAR"), ("tags", "VARCHAR[]"), ("dt", "DATE")]


def test_a_partition_without_rows_is_an_empty_typed_view_too(store: Store) -> None:
    with store.stage(RUNS, MONDAY, fingerprint(0), record={}):
        pass
    with duckdb.connect(rebuild(store, VIEWS), read_only=True) as connection:
        assert connection.execute("SELECT * FROM runs").fetchall() == []
        assert [row[1] for row in connection.execute("DESCRIBE runs").fetchall()] == [
            "VARCHAR",
            "VARCHAR[]",
            "DATE",
        ]


def test_a_process_that_holds_it_open_keeps_its_day_while_it_is_replaced(
    store: Store, analysts: type[Analyst]
) -> None:
    put(store, MONDAY, 0.5)
    early = analysts(rebuild(store, VIEWS))  # type: ignore[call-arg]
    assert early.ask("SELECT DISTINCT p FROM scores") == [[0.5]]
    put(store, MONDAY, 0.75)
    late = analysts(rebuild(store, VIEWS))  # type: ignore[call-arg]
    assert late.ask("SELECT DISTINCT p FROM scores") == [[0.75]]
    assert early.ask("SELECT DISTINCT p FROM scores") == [[0.5]]
    assert sorted(path.name for path in store.root.iterdir() if path.is_file()) == ["catalog.duckdb"]


def test_an_unchanged_warehouse_keeps_its_catalogue(store: Store, tmp_path: Path) -> None:
    put(store, MONDAY, 0.5)
    first = rebuild(store, VIEWS).stat()
    assert rebuild(store, VIEWS).stat().st_ino == first.st_ino
    changes = [VIEWS[:2], (CatalogView("scores", SCORES, "SELECT p FROM this"),), VIEWS]
    inodes = [rebuild(store, views).stat().st_mtime_ns for views in changes]
    assert len({first.st_mtime_ns, *inodes}) == 4
    put(store, MONDAY, 0.75)
    assert rebuild(store, VIEWS).stat().st_mtime_ns not in inodes
    store.root.rename(tmp_path / "moved")
    moved = rebuild(Store(tmp_path / "moved"), VIEWS)
    with duckdb.connect(moved, read_only=True) as connection:
        assert connection.execute("SELECT DISTINCT p FROM scores").fetchall() == [(0.75,)]


@pytest.mark.parametrize("content", [b"", b"torn", b"x" * 20_000])
def test_a_broken_catalogue_is_replaced(store: Store, content: bytes) -> None:
    put(store, MONDAY, 0.5)
    path = rebuild(store, VIEWS)
    path.write_bytes(content)
    (store.root / "_staging" / "catalog.duckdb").write_bytes(b"debris of a killed rebuild")
    with duckdb.connect(rebuild(store, VIEWS), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchall() == [(4,)]


def test_a_column_that_older_days_lack_reads_as_null(store: Store) -> None:
    wide = Table("scores", pa.schema([("extra", pa.string()), *SCORES.schema]), partition_by=("dt", "line"))
    put(store, MONDAY, 0.5)
    for expected in ([(MONDAY, None)], [(MONDAY, None), (TUESDAY, "x")]):
        with duckdb.connect(rebuild(store, [CatalogView("scores", wide)]), read_only=True) as connection:
            got = connection.execute("SELECT DISTINCT dt, extra FROM scores ORDER BY dt").fetchall()
            assert got == expected
            assert connection.execute("DESCRIBE scores").fetchall()[0][:2] == ("extra", "VARCHAR")
        put(store, TUESDAY, 0.5, wide)


def test_a_filter_on_the_day_reaches_the_files_of_a_derived_view(store: Store) -> None:
    put(store, MONDAY, 0.5)
    put(store, TUESDAY, 0.75)
    views = [CatalogView("doubled", SCORES, "SELECT *, 2 * p AS twice FROM this")]
    with duckdb.connect(rebuild(store, views), read_only=True) as connection:
        query = "EXPLAIN ANALYZE SELECT sum(twice) FROM doubled WHERE dt = DATE '2026-01-05'"
        assert "Scanning Files: 2/4" in str(connection.execute(query).fetchall())


@pytest.mark.parametrize(
    "select", ["SELECT nothing FROM this", "DROP TABLE x", "SELECT 1; SELECT 2", "SELEC"]
)
def test_a_view_that_cannot_be_is_named_and_the_old_catalogue_stays(store: Store, select: str) -> None:
    put(store, MONDAY, 0.5)
    before = rebuild(store, VIEWS).read_bytes()
    with pytest.raises(BadWarehouse, match="view broken"):
        rebuild(store, [*VIEWS, CatalogView("broken", SCORES, select)])
    assert (store.root / "catalog.duckdb").read_bytes() == before


def test_a_live_file_that_cannot_be_read_is_named(store: Store) -> None:
    put(store, MONDAY, 0.5)
    broken = store.generations(SCORES, MONDAY)[1].files[0]
    broken.write_bytes(b"not Parquet at all")
    with pytest.raises(BadWarehouse, match=f"scores: a live file cannot be read .*{broken.name}"):
        rebuild(store, VIEWS)
    assert not (store.root / "catalog.duckdb").exists()


def test_rebuilds_at_once_take_turns(store: Store) -> None:
    put(store, MONDAY, 0.5)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda views: rebuild(store, views), [VIEWS, VIEWS[:1]] * 4))
    with duckdb.connect(paths[0], read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchall() == [(4,)]


@pytest.mark.parametrize("name", ["Scores", "a b", "built_from", "x;y", ""])
def test_view_names_need_no_quotes(name: str) -> None:
    with pytest.raises(ValueError, match="View name"):
        CatalogView(name, SCORES)
