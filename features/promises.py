"""Promises of the tables: queries under ``sql/checks`` that select the rows which break them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

import sql
from features.engine import Limits, connect
from features.funnel import Funnel

_SHOWN = 3


@dataclass(frozen=True)
class Offence:
    """A broken promise.

    Attributes:
        check: name of the query.
        promise: what it says in words.
        offenders: number of rows it selected.
        examples: the first of them, as text.
    """

    check: str
    promise: str
    offenders: int
    examples: tuple[str, ...]


def promises_of(table: str) -> tuple[sql.Query, ...]:
    """The checks whose header names this table."""
    checks = (sql.load(name) for name in sql.names() if name.startswith("checks/"))
    return tuple(query for query in checks if query.header["table"] == table)


def broken(table: str, files: Sequence[Path], funnel: Funnel, limits: Limits) -> tuple[Offence, ...]:
    """Hold data files of one table to its promises.

    A check reads the relation ``this`` (the files) and may read ``funnel`` (``objective``, ``given``).

    Args:
        table: name of the table.
        files: staged or live data files; none of them keeps every promise.
        funnel: the scenario's objectives.
        limits: of the connection.
    """
    if not files:
        return ()
    with connect(limits) as connection:
        paths = [str(file) for file in files]
        connection.read_parquet(paths, hive_partitioning=True, union_by_name=True).create_view("this")
        connection.execute('CREATE TABLE funnel (objective VARCHAR, "given" VARCHAR)')
        connection.executemany("INSERT INTO funnel VALUES (?, ?)", [(o.name, o.given) for o in funnel])
        found = (_offence(connection, query) for query in promises_of(table))
        return tuple(offence for offence in found if offence is not None)


def _offence(connection: duckdb.DuckDBPyConnection, query: sql.Query) -> Offence | None:
    # Into a table first: DuckDB 2.0.0 never returns from a LIMIT over a self-join of several Parquet files.
    connection.sql(query.text).create("offenders")
    selected = connection.sql("SELECT count(*) FROM offenders").fetchall()
    examples = connection.sql(f"SELECT * FROM offenders LIMIT {_SHOWN}").pl().rows(named=True)  # noqa: S608
    connection.execute("DROP TABLE offenders")
    if not examples:
        return None
    shown = tuple(", ".join(f"{name}={value}" for name, value in row.items()) for row in examples)
    return Offence(query.name, query.header["promise"], int(selected[0][0]), shown)
