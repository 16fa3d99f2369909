"""Promises of the tables: queries under ``sql/checks`` that select the rows which break them.

A promise speaks of several rows or several tables; what follows from the declarations is in the table's
contract (`features.validation`). A check reads the relations ``this`` (the files), ``funnel`` (``objective``,
``given``), and those that its header names under ``reads``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa

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


@dataclass(frozen=True)
class Relation:
    """Rows of another table that a check compares with.

    Attributes:
        schema: its columns.
        parts: data files, and the columns taken of them, as SQL; the parts are put one under the other.
        once: whether equal rows are put together, which an anti join does not need.
    """

    schema: pa.Schema
    parts: tuple[tuple[tuple[Path, ...], str], ...]
    once: bool = True


def promises_of(table: str) -> tuple[sql.Query, ...]:
    """The checks whose header names this table."""
    return tuple(sql.load(name) for name in _checks().get(table, ()))


@cache
def _checks() -> Mapping[str, Sequence[str]]:
    """By table, the names of its checks."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sql.names():
        if name.startswith("checks/"):
            found[sql.load(name).header["table"]].append(name)
    return found


def reads(table: str) -> frozenset[str]:
    """Names of the relations that the checks of a table compare with."""
    told = (query.header.get("reads", "") for query in promises_of(table))
    return frozenset(name for names in told for name in names.replace(",", " ").split())


def broken(
    table: str,
    files: Sequence[Path],
    funnel: Funnel,
    limits: Limits,
    *,
    relations: Mapping[str, Relation],
) -> tuple[Offence, ...]:
    """Hold data files of one table to its promises.

    Args:
        table: name of the table.
        files: staged or live data files; none of them keeps every promise.
        funnel: the scenario's objectives.
        limits: of the connection.
        relations: by name, at least those of `reads`.
    """
    if not files or not promises_of(table):
        return ()
    with connect(limits) as connection:
        paths = [str(file) for file in files]
        connection.read_parquet(paths, hive_partitioning=True, union_by_name=True).create_view("this")
        for name in reads(table):
            _relate(connection, name, relations[name])
        connection.execute('CREATE TABLE funnel (objective VARCHAR, "given" VARCHAR)')
        connection.executemany("INSERT INTO funnel VALUES (?, ?)", [(o.name, o.given) for o in funnel])
        found = (_offence(connection, query) for query in promises_of(table))
        return tuple(offence for offence in found if offence is not None)


def _relate(connection: duckdb.DuckDBPyConnection, name: str, relation: Relation) -> None:
    parts = [
        connection.read_parquet(
            [str(file) for file in files], hive_partitioning=True, union_by_name=True
        ).project(columns)
        for files, columns in relation.parts
        if files
    ]
    if relation.once:
        parts = [part.distinct() for part in parts]
    if not parts:
        connection.register(name, relation.schema.empty_table())
        return
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.union(part)
    whole.create_view(name)


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
