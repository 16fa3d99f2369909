"""What one may ask the catalogue, and what one may not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from features.errors import UsageError
from flows import report
from flows.house import House
from flows.query import Answer, as_text, ask
from flows.settings import Settings


@pytest.fixture
def house(elsewhere: Path) -> House:
    """A published catalogue with one view over one Parquet file."""
    opened = House.open(Settings.load())
    folder = opened.store.root / "scores"
    folder.mkdir(parents=True)
    with duckdb.connect(opened.catalog) as connection:
        rows = "SELECT range AS user_id, range / 10 AS pctr FROM range(3)"
        connection.execute(f"COPY ({rows}) TO '{folder}/part.parquet'")
        connection.execute(f"CREATE VIEW scores AS FROM read_parquet(['{folder}/part.parquet'])")
    return opened


@pytest.mark.parametrize(
    "query",
    [
        "FROM scores", "SELECT max(pctr) FROM scores", "WITH a AS (FROM scores) SELECT * FROM a",
        "SHOW TABLES", "DESCRIBE scores", "SUMMARIZE scores", "VALUES (1);",
        "EXPLAIN FROM scores", "explain analyze SELECT 1",
    ],
)  # fmt: skip
def test_questions_are_answered(house: House, query: str) -> None:
    assert ask(house, query).rows


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT 1; SELECT 2", "2 statements"),
        ("", "0 statements"),
        ("COPY (SELECT 1) TO '{root}/evil.parquet'", "a statement of kind COPY"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/evil.parquet'", "a statement of kind COPY"),
        ("/* x */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/evil.parquet'", "a statement of kind EXPLAIN"),
        ("explain /**/ analyze copy (select 1) to '{root}/evil.parquet'", "E201 UsageError: query"),
        ("EXPORT DATABASE '{root}/evil'", "a statement of kind EXPORT"),
        ("SET enable_external_access = true", "a statement of kind SET"),
        ("ATTACH '{root}/evil.duckdb'", "a statement of kind ATTACH"),
        ("INSTALL httpfs", "a statement of kind LOAD"),
        ("DROP VIEW scores", "a statement of kind DROP"),
        ("FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("FROM '{root}/../funnelcast.toml'", "E201 UsageError: query"),
        ("PRAGMA enable_profiling", "E201 UsageError: query"),
        ("RESET enable_external_access", "E201 UsageError: query"),
        ("SET lock_configuration = false", "a statement of kind SET"),
        ("LOAD '/tmp/evil.duckdb_extension'", "a statement of kind LOAD"),
        ("CALL enable_logging()", "E201 UsageError: query"),
        ("PREPARE x AS SELECT 1", "a statement of kind PREPARE"),
        ("USE memory", "a statement of kind"),
        ("SELECT 1; COPY (SELECT 1) TO '{root}/evil.csv'", "2 statements"),
        ("SELECT * FROM scores WHERE user_id = ''; DROP VIEW scores; --'", "2 statements"),
        ("SELECT content FROM read_text('/etc/passwd')", "file system operations are disabled"),
        ("SELECT content FROM read_blob('{root}/../../../../etc/passwd')", "E201 UsageError: query"),
        ("FROM read_parquet('{root}/../../x.parquet')", "E201 UsageError: query"),
        ("FROM query('COPY (SELECT 1) TO ''{root}/evil.csv'' ')", "E201 UsageError: query"),
        ("FROM query_table('/etc/passwd')", "E201 UsageError: query"),
        ("FROM read_csv('http://169.254.169.254/latest/meta-data')", "E201 UsageError: query"),
        ("FROM sniff_csv('/etc/passwd')", "E201 UsageError: query"),
        ("FROM params", "E201 UsageError: query"),
        ("FROM glob('/etc/*')", "file system operations are disabled"),
        ("SELECT pctrr FROM scores", "pctrr"),
        ("SELEC 1", "syntax error"),
    ],
)
def test_all_else_is_refused_in_one_line(house: House, query: str, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(house, query.replace("{root}", str(house.store.root)))
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(house.store.root.rglob("evil*"))


def test_a_query_that_does_not_end_is_ended(house: House) -> None:
    with pytest.raises(UsageError, match=r"not done after 0\.3 s"):
        ask(house, "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", seconds=0.3)
    assert ask(house, "FROM scores").rows


def test_more_rows_than_memory_should_hold_are_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.query.ROWS", 1000)
    assert len(ask(house, "FROM range(1000)").rows) == 1000
    with pytest.raises(UsageError, match="more than 1,000 rows"):
        ask(house, "FROM range(1000000)", seconds=20)


def test_a_value_is_never_read_as_sql(house: House) -> None:
    attack = "0) OR 1=1; DROP VIEW scores; --"
    assert ask(house, "SELECT $value AS v", {"value": attack}).rows == [(attack,)]
    assert ask(house, "FROM scores").rows


def test_nothing_is_published_yet(elsewhere: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing is published yet. Next: funnelcast run --date"):
        ask(House.open(Settings.load()), "FROM scores")


def test_csv_and_json_are_complete_where_a_table_is_shortened(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(house, "FROM scores ORDER BY user_id")
    report.answer(found, "csv", 1)
    assert capsys.readouterr().out.splitlines() == ["user_id,pctr", "0,0.0", "1,0.1", "2,0.2"]
    report.answer(found, "json", 1)
    assert [row["user_id"] for row in json.loads(capsys.readouterr().out)] == [0, 1, 2]
    report.answer(found, "table", 1)
    assert "1 of 3 rows" in capsys.readouterr().out


def test_data_is_neither_markup_nor_terminal_control(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer(Answer(("na[b]me",), [("[red]x[/red]",), ("a\x1b[2Jb",), (float("nan"),)]), "table", 9)
    shown = capsys.readouterr().out
    assert "na[b]me" in shown
    assert "[red]x[/red]" in shown
    assert "\x1b" not in shown
    assert as_text("a\x1b[2Jb") == "a [2Jb"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer(Answer(("value",), [(float("nan"),)]), "json", 9)
    assert json.loads(capsys.readouterr().out) == [{"value": None}]


def test_the_command_answers_from_any_folder(
    house: House, funnelcast: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = funnelcast("sql", "SELECT count(*) AS n FROM scores", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [{"n": 3}]), done.stderr
    refused = funnelcast("sql", "DROP VIEW scores")
    assert refused.returncode == 2
    assert refused.stderr.startswith("E201 UsageError: query: a statement of kind DROP")
