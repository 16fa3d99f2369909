"""Ask the catalogue: one read-only statement that can reach the scenario's own tables and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb

from features.errors import UsageError
from flows.house import House

SECONDS = 300.0
ROWS = 1_000_000
_EXPLAIN = re.compile(r"\s*explain\b(\s+analyze\b)?(\s*\([^)]*\))?", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """Rows of a query with the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def exists(house: House) -> bool:
    """True once a day has been published."""
    return house.catalog.is_file()


def ask(
    house: House, text: str, params: Mapping[str, object] | None = None, *, seconds: float = SECONDS
) -> Answer:
    """Run one query on ``catalog.duckdb``.

    The connection is locked down: read-only, no file outside the scenario's folder, no network, no
    extension, no change of settings. It takes ``memory_limit`` and as much of the disk, ends after
    ``seconds``, and answers a million rows at most: they are all held in memory here, beyond DuckDB's own
    limit.

    Raises:
        UsageError: nothing is published yet, it is not one query, DuckDB refuses it, or it asks for too much.
    """
    if not exists(house):
        raise UsageError(str(house.catalog), "nothing is published yet", "funnelcast run --date <day>")
    try:
        _refuse_other_than_one_query(text)
        with _locked(house) as connection, _limited(connection, seconds):
            relation = connection.execute(text, dict(params or {}))
            columns = tuple(column[0] for column in relation.description or ())
            rows = relation.fetchmany(ROWS + 1)
        if len(rows) > ROWS:
            step = "ask for fewer, or read catalog.duckdb with stock DuckDB"
            raise UsageError("query", f"more than {ROWS:,} rows", step)
        return Answer(columns, rows)
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        said = " ".join(str(error).split("Possible solutions")[0].split()) or "out of memory"
        raise UsageError("query", said, "ask for less, or raise memory_limit in funnelcast.toml") from error
    except duckdb.InterruptException as error:
        raise UsageError("query", f"not done after {seconds:g} s", "ask for less") from error
    except duckdb.Error as error:
        said = " ".join(str(error).split("LINE 1:")[0].split())
        raise UsageError("query", said, 'funnelcast sql "SHOW TABLES" lists what there is') from error


@contextmanager
def _limited(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt what is still going on after so many seconds."""
    timer = Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it might interrupt a connection that is closed


def _locked(house: House) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        house.catalog,
        read_only=True,
        config={"memory_limit": house.settings.memory_limit, "threads": house.settings.threads},
    )
    # What does not fit spills beside the catalogue; a question must not fill the disk that runs write to.
    connection.execute(f"SET max_temp_directory_size = '{house.settings.memory_limit}'")
    folder = str(house.store.root).replace("'", "''")
    connection.execute(f"SET allowed_directories = ['{folder}']")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")  # a name is never a variable of ours
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _refuse_other_than_one_query(text: str) -> None:
    """COPY could write into the tables' own folders, and EXPLAIN ANALYZE runs what it explains."""
    kind = _kind(text)
    if kind == "EXPLAIN" and (explain := _EXPLAIN.match(text)):
        kind = _kind(text[explain.end() :])
    if kind != "SELECT":
        raise UsageError("query", f"a statement of kind {kind}", "the catalogue only answers SELECT")


def _kind(text: str) -> str:
    statements = duckdb.extract_statements(text)
    if len(statements) != 1:
        raise UsageError("query", f"{len(statements)} statements", "ask one query at a time")
    try:
        return str(statements[0].type.name)
    except ValueError:  # DuckDB parses statements for which its Python API has no name: UPDATE EXTENSIONS
        return "unknown"


def as_text(value: object) -> str:
    """A value for a table cell, without control characters that a terminal would obey."""
    if value is None:
        return ""
    shown = f"{value:,.4f}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in shown)


def relative(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
