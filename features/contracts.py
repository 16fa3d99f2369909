"""What a raw file must look like before a single row of it is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb

from features.errors import CorruptInput, MissingLog, SchemaDrift
from features.scenario import Source

_PATTERN = re.compile(r"[*?\[]")


def raw_files(source: Source, root: Path, day: date) -> list[Path]:
    """The delivered files of a source for a day, sorted; names that begin with ``.`` or ``_`` are left out.

    Raises:
        MissingLog: there is none.
        CorruptInput: a name that engines would take for a pattern of other names, or a link that leads out of
            the root.
    """
    pattern = source.files.format(day=day.isoformat())
    found = sorted(p for p in root.glob(pattern) if p.is_file() and not p.name.startswith((".", "_")))
    if not found:
        raise MissingLog(
            f"{source.name} of {day}",
            f"no file matches {root / pattern}",
            "deliver the day's log or correct the log root in the settings",
        )
    home = root.resolve()
    for file in found:
        if _PATTERN.search(str(file)):
            step = "rename it; until then nothing of the day is read"
            raise CorruptInput(str(file), "its path holds one of * ? [, which stand for other names", step)
        if not (real := file.resolve()).is_relative_to(home):
            step = "put the file itself there, or set the log root to the folder that holds all of them"
            raise CorruptInput(str(file), f"a link out of the log root, to {real}", step)
    return found


def check_raw(
    connection: duckdb.DuckDBPyConnection, source: Source, files: Sequence[Path]
) -> dict[str, tuple[str, ...]]:
    """Hold every file to the source's contract.

    Every file is checked by itself: read together, DuckDB would take the first file's schema and cast the
    others to it without a word.

    Returns:
        By name of a file, its columns that the source does not know, and that are therefore not read.

    Raises:
        CorruptInput: a file is not readable Parquet.
        SchemaDrift: a column is missing or has another type.
    """
    strange: dict[str, tuple[str, ...]] = {}
    for file in files:
        try:
            described = connection.sql(
                "DESCRIBE SELECT * FROM read_parquet($file)", params={"file": str(file)}
            ).fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:  # of any kind: a footer may be broken in any way
            raise _corrupt(file, error) from error
        found = {str(name): str(kind) for name, kind, *_ in described}
        _check_columns(source, file, found)
        if unknown := tuple(sorted(set(found) - set(source.raw) - {"dt"})):
            strange[file.name] = unknown
    return strange


@contextmanager
def blaming(files: Sequence[Path]) -> Iterator[None]:
    """Name the raw file that cannot be read where a query over several fails; other faults stay as they are.

    A footer says that a file is Parquet as agreed. Whether its pages can be decoded is known when they are,
    and DuckDB tells it by errors of many kinds, some without the file's name.

    Raises:
        CorruptInput: a file cannot be decoded when it is read alone.
    """
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        for file in files:
            with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as alone:
                try:
                    # Every page is decoded, and no row is kept.
                    alone.execute(
                        "SELECT count(hash(raw)) FROM read_parquet($file) AS raw", {"file": str(file)}
                    )
                except duckdb.Error as reason:
                    raise _corrupt(file, reason) from error
        raise


def _corrupt(file: Path, error: duckdb.Error) -> CorruptInput:
    reason = (str(error).splitlines() or [type(error).__name__])[0].replace(str(file), file.name)
    return CorruptInput(str(file), reason, "deliver the file again; the day was not touched")


def readable_together(
    files: Sequence[Path], strange: Mapping[str, tuple[str, ...]], source: Source
) -> list[Path]:
    """The files in an order in which DuckDB reads them as one: it asks all for the columns of the first.

    Args:
        files: of one delivery, each as agreed.
        strange: columns that nobody reads, as `check_raw` tells them.
        source: whose they are.

    Raises:
        SchemaDrift: no file has only such of these columns as all others have too.
    """
    first, *others = sorted(files, key=lambda file: (len(strange.get(file.name, ())), file.name))
    for other in others:
        alone = sorted({*strange.get(first.name, ())} - {*strange.get(other.name, ())})
        if alone:
            raise SchemaDrift(
                f"{other}, column {alone[0]!r}",
                f"missing, while {first.name} has it; each has columns that the other lacks",
                f"deliver all files of {source.name!r} with the same columns",
            )
    return [first, *others]


def _check_columns(source: Source, file: Path, found: dict[str, str]) -> None:
    for column, kind in source.raw.items():
        if column not in found:
            new = [name for name in found if name not in source.raw]
            near = difflib.get_close_matches(column, new, n=1, cutoff=0.5)
            hint = f"; did {near[0]!r} take its place?" if near else ""
            raise SchemaDrift(
                f"{file}, column {column!r}",
                f"missing, expected {kind}{hint}",
                f"deliver the column, or change the contract of source {source.name!r} in its scenario",
            )
        if found[column] != kind:
            raise SchemaDrift(
                f"{file}, column {column!r}",
                f"type {found[column]}, expected {kind}",
                f"deliver it as {kind}; values are never cast silently",
            )
