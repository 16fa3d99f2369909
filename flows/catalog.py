"""The analyst's door: one DuckDB file of commented views over the live files, swapped in whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from features.errors import BadWarehouse
from features.fingerprint import fingerprint
from features.log import Snapshot
from features.parquet import sync
from features.staging import STAGING
from features.store import Store
from features.tables import Table

FILE = "catalog.duckdb"
_FORMAT = 1  # raise it when the views of an unchanged warehouse must be written anew
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
_LISTED = re.compile(r"'((?:[^']|'')*\.parquet)'")
_WAIT_SECONDS = 120.0
# The oldest format that serves, so that an analyst's older DuckDB opens the file too.
_STORAGE = "v1.0.0"
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


@dataclass(frozen=True)
class CatalogView:
    """One view of the catalogue.

    Attributes:
        name: its name in SQL.
        table: the table that it reads.
        select: a query over the relation ``this``, which holds the table's live rows; ``None`` shows
            them as they are.
        description: comment of the view; the table's description if empty.

    Raises:
        ValueError: a name that would need quotes, or that the catalogue keeps for itself.
    """

    name: str
    table: Table
    select: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == "built_from":
            raise ValueError(
                f"View name must match {_NAME.pattern!r} and not be built_from, got {self.name!r}."
            )


def rebuild(store: Store, views: Sequence[CatalogView]) -> Path:
    """Bring ``catalog.duckdb`` in line with the warehouse; does nothing if it is already.

    A process that has the old file open keeps reading the old files, whole, as long as they exist; a
    process that opens it now reads the new ones. It opens read-only from any working directory and
    needs no extension. After the warehouse was moved, rebuild it: its views hold absolute paths.

    Args:
        store: the warehouse.
        views: all views of the catalogue; others disappear.

    Returns:
        Path of the catalogue.

    Raises:
        Busy: another process has been rebuilding it for two minutes.
        BadWarehouse: a live file is missing, or a view's query does not run.
        ValueError: two views of one name.
    """
    if len({view.name for view in views}) != len(views):
        raise ValueError(f"View names must be distinct, got {[view.name for view in views]}.")
    tables = {view.table.name: view.table for view in views}
    target = store.root / FILE
    # Versions are read under the lock: a slow rebuild must not put older files over newer ones.
    with store.lease("catalog", wait=_WAIT_SECONDS):
        live = {name: store.snapshot(table) for name, table in tables.items()}
        state = _state(store, views, live)
        if _built_from(target) == state:
            return target
        draft = store.root / STAGING / FILE
        draft.parent.mkdir(parents=True, exist_ok=True)
        for debris in (draft, draft.with_name(f"{FILE}.wal")):
            debris.unlink(missing_ok=True)
        files = {name: store.paths(table, live[name].files) for name, table in tables.items()}
        with _drafting(draft) as connection:
            rows = {name: _rows(connection, table, files[name]) for name, table in tables.items()}
            for view in views:
                _create(connection, view, rows[view.table.name])
            _sign(connection, state)
        sync(draft)
        draft.replace(target)
        sync(store.root)
    return target


def listed_files(target: Path) -> set[Path]:
    """The data files that the views of a catalogue name.

    Raises:
        duckdb.Error: it is no catalogue that can be opened.
    """
    with duckdb.connect(target, read_only=True) as connection:
        texts = connection.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()
    return {Path(path.replace("''", "'")) for (text,) in texts for path in _LISTED.findall(text)}


def _state(store: Store, views: Sequence[CatalogView], live: Mapping[str, Snapshot]) -> dict[str, str]:
    """Everything that the text of the catalogue depends on."""
    declared = [
        {
            "view": [view.name, view.select, view.description],
            "table": [view.table.name, str(view.table.all_columns), view.table.description],
            "comments": dict(view.table.columns),
        }
        for view in views
    ]
    state = {"warehouse": str(store.root), "views": fingerprint([_FORMAT, duckdb.__version__, declared])}
    return state | {f"table {name}": snapshot.identity for name, snapshot in live.items()}


def _built_from(target: Path) -> dict[str, str] | None:
    """State that a catalogue was built from, ``None`` if there is none that can be read."""
    if not target.exists():
        return None
    try:
        with duckdb.connect(target, read_only=True) as connection:
            return dict(connection.execute("SELECT subject, state FROM built_from").fetchall())
    except duckdb.Error:  # torn, foreign, or open in this process in another mode
        return None


@contextmanager
def _drafting(draft: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that writes into ``draft``; the file is complete when the block has ended."""
    with duckdb.connect(config=_SETTINGS) as connection:
        connection.execute("SET parquet_metadata_cache = true")  # every view opens all footers of its table
        connection.execute(f"ATTACH {_text(str(draft))} AS draft (STORAGE_VERSION '{_STORAGE}')")
        connection.execute("USE draft")
        connection.begin()  # else every comment is a commit of its own, and waits for the disk
        yield connection
        connection.commit()
        connection.execute("CHECKPOINT draft")
        connection.execute("USE memory")
        connection.execute("DETACH draft")


def _create(connection: duckdb.DuckDBPyConnection, view: CatalogView, rows: str) -> None:
    """Create one view, over the query of its table's live rows, with its comments."""
    try:
        if view.select is not None:
            # Not materialised: a filter on a day must reach the file list. The line break ends a comment.
            rows = f"WITH this AS NOT MATERIALIZED ({rows}) SELECT * FROM ({_query(view)}\n)"  # noqa: S608 - ours
        connection.execute(f"CREATE VIEW {_name(view.name)} AS {rows}")
    except duckdb.Error as error:
        raise BadWarehouse(
            f"view {view.name}", f"cannot be created ({error})", "correct its query"
        ) from error
    _comment(connection, f"VIEW {_name(view.name)}", view.description or view.table.description)
    columns = "SELECT column_name FROM duckdb_columns() WHERE database_name = 'draft' AND table_name = ?"
    for (column,) in connection.execute(columns, [view.name]).fetchall():
        if comment := view.table.columns.get(column):
            _comment(connection, f"COLUMN {_name(view.name)}.{_name(column)}", comment)


def _query(view: CatalogView) -> str:
    """The one SELECT of a derived view; anything else would be run, not shown."""
    statements = duckdb.extract_statements(view.select or "")
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise BadWarehouse(f"view {view.name}", "its query is not one SELECT", "correct the view's query")
    return statements[0].query.rstrip().rstrip(";")


def _sign(connection: duckdb.DuckDBPyConnection, state: Mapping[str, str]) -> None:
    """Note what the catalogue was built from, for the next rebuild."""
    connection.execute("CREATE TABLE built_from (subject VARCHAR, state VARCHAR)")
    connection.executemany("INSERT INTO built_from VALUES (?, ?)", list(state.items()))
    _comment(connection, "TABLE built_from", "What this catalogue was built from; kept by funnelcast.")


def _rows(connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[Path]) -> str:
    """Query of the live rows in the declared columns and types, whichever of them the files have."""
    types = _types(connection, table.all_columns)
    if not files:
        return f"SELECT {', '.join(_null(name, kind) for name, kind in types.items())} WHERE false"
    hive = ", ".join(f"{_text(name)}: {types[name]}" for name in table.partition_by)
    source = (
        f"read_parquet([{', '.join(_text(str(file)) for file in files)}], union_by_name = true, "
        f"hive_partitioning = true, hive_types = {{{hive}}})"
    )
    try:
        found = connection.execute(f"DESCRIBE FROM {source}").fetchall()
    except duckdb.Error as error:
        step = "restore the file, or build its day again"
        raise BadWarehouse(table.name, f"a live file cannot be read ({error})", step) from error
    present = {name for name, *_ in found}
    columns = [_name(name) if name in present else _null(name, kind) for name, kind in types.items()]
    return f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608 - every part is quoted


def _types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    """DuckDB's names of Arrow types."""
    relation = connection.from_arrow(schema.empty_table())
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _null(name: str, kind: str) -> str:
    return f"CAST(NULL AS {kind}) AS {_name(name)}"


def _comment(connection: duckdb.DuckDBPyConnection, thing: str, comment: str) -> None:
    if comment:
        connection.execute(f"COMMENT ON {thing} IS {_text(comment)}")


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
