"""The one join of features to rows as of an instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

import numpy as np
import polars as pl

from features.as_of_duckdb import AsOfQuery
from features.as_of_index import Bisection, Versions
from features.as_of_ready import EVENT_TIME, VISIBLE_FROM, check_fields
from features.engine import Limits
from features.errors import BrokenPromise, NoInstant, SchemaDrift, UsageError
from features.instants import microseconds
from features.key_lookup import Int64s

_MICROSECOND = timedelta(microseconds=1)


class _Search(Protocol):
    def find(self, keys: pl.DataFrame, at: Int64s) -> Int64s: ...


def pit_join(
    rows: pl.LazyFrame,
    ready: pl.LazyFrame,
    *,
    keys: Sequence[str] | Mapping[str, str],
    at: str,
    fields: Sequence[str] | Mapping[str, pl.DataType],
    max_age: timedelta | None,
    between: tuple[datetime, datetime] | None = None,
    prefix: str = "",
    engine: Literal["polars", "duckdb"] = "polars",
    limits: Limits | None = None,
) -> pl.LazyFrame:
    """Add to each row what a view said of its entity as it was known at the row's instant.

    * Every row comes back exactly once and in its place, with all its columns, whatever the view holds.
    * Of the versions with ``visible_from <= at``, the one of the latest event counts, among equal events
      the one that arrived last. A value at exactly ``at`` is known.
    * If that version is older than ``max_age`` (``at - event_time > max_age``; exactly as old is in), or
      there is none, the fields are null. A null in that version is its value: there is no look-back to an
      older one.
    * A null never matches, neither as a key nor as one part of a composite key.
    * Integer keys match by value whatever their width, text matches text. Parts of a key stay apart.
    * Instants are compared in UTC microseconds, whatever their zone and unit: those of rows are rounded
      down, those of versions were rounded up. Ages are lengths of time, also when clocks change.

    Args:
        rows: what to add to. Read when the result is, in batches where the engine of the query streams.
        ready: what ``as_of_ready`` made of the view. Read now and held in memory; if it is stored sorted,
            it is not sorted again.
        keys: key columns; or the rows' columns with those of the view, where their names differ.
        at: column of ``rows``: the instant as of which to ask.
        fields: fields of the view; or fields with their declared types.
        max_age: oldest event that still counts; ``None`` for any.
        between: first and last instant of the rows, naive UTC, both included: only versions that can answer
            within them are read, which spares whole files of a view that is stored by days.
        prefix: put before the names of the fields, to join one view twice.
        engine: ``polars`` bisects in memory; ``duckdb`` spills the search (not the fields) to disk, and
            takes all rows at once.
        limits: of DuckDB's connection; needed by that engine alone.

    Returns:
        ``rows`` with the fields behind its columns.

    Raises:
        UsageError: arguments that contradict each other; a field named like a column of the rows.
        SchemaDrift: a column of either side is missing, or of a type other than declared or comparable.
        NoInstant: on collecting: a row's instant is null, or not ``between``.
        BrokenPromise: ``ready`` is not as-of ready; on collecting: an answer from after its row.
    """
    pairs = dict(keys) if isinstance(keys, Mapping) else {name: name for name in keys}
    asked, held = rows.collect_schema(), ready.collect_schema()
    where = f"join of {', '.join(fields)} by {', '.join(pairs)}"
    check_fields(asked, [*pairs, at], f"{where}: rows")
    check_fields(held, {VISIBLE_FROM: pl.Datetime("us"), EVENT_TIME: pl.Datetime("us")}, f"{where}: view")
    check_fields(held, fields, f"{where}: view")
    check_fields(held, list(pairs.values()), f"{where}: view")
    if not pairs or not fields:
        raise UsageError(where, "no key, or no field", "name at least one of each")
    if max_age is not None and max_age < timedelta(0):
        raise UsageError(where, f"max age {max_age}", "give 0 or more, or None for any age")
    if taken := [name for name in fields if f"{prefix}{name}" in asked]:
        raise UsageError(where, f"rows already have columns {taken}", "rename them, or give a prefix")

    instants = microseconds(at, asked[at], up=False)
    kinds = [_comparable(asked[mine], held[theirs], mine, where) for mine, theirs in pairs.items()]
    mine = [
        pl.col(name).cast(kind, strict=False).alias(f"key_{place}")
        for place, (name, kind) in enumerate(zip(pairs, kinds, strict=True))
    ]
    theirs = [pl.col(name).cast(kind, strict=False) for name, kind in zip(pairs.values(), kinds, strict=True)]
    if between is not None:
        ready = _within_reach(ready, *between, max_age)
    versions = Versions.of(ready, theirs, list(fields))
    search = _search(versions, engine, limits)
    names = {name: f"{prefix}{name}" for name in fields}

    def joined(block: pl.DataFrame) -> pl.DataFrame:
        instant = _instants(block.select(instants).to_series(), between, where)
        place = search.find(block.select(mine), instant)
        return block.hstack(_values(versions, place, instant, max_age).rename(names))

    schema = {**asked, **{names[name]: held[name] for name in fields}}
    return rows.map_batches(joined, schema=schema, streamable=engine == "polars")


def _within_reach(
    ready: pl.LazyFrame, first: datetime, last: datetime, max_age: timedelta | None
) -> pl.LazyFrame:
    """Versions that rows from ``first`` to ``last`` can meet.

    Event times do not fall within a key, so what is too old for every row never hides what is not.
    """
    seen = ready.filter(pl.col(VISIBLE_FROM) <= last)
    return seen if max_age is None else seen.filter(pl.col(EVENT_TIME) >= first - max_age)


def _instants(at: pl.Series, between: tuple[datetime, datetime] | None, where: str) -> Int64s:
    if at.null_count():
        raise NoInstant(where, f"{at.null_count()} rows have null {at.name!r}", "quarantine them before")
    if between is not None:
        inside = at.cast(pl.Datetime("us")).is_between(*between)
        if not inside.all():
            raise NoInstant(
                where,
                f"{(~inside).sum()} rows lie outside {between[0]} to {between[1]}",
                "give the range in which all rows lie, or none",
            )
    instants: Int64s = at.to_numpy()
    return instants


def _search(versions: Versions, engine: str, limits: Limits | None) -> _Search:
    if engine == "polars":
        return Bisection(versions)
    if engine == "duckdb" and limits is not None:
        return AsOfQuery(versions, limits)
    raise UsageError(
        f"engine {engine!r}", f"limits {limits}", "choose polars, or duckdb with limits for its connection"
    )


def _values(versions: Versions, place: Int64s, at: Int64s, max_age: timedelta | None) -> pl.DataFrame:
    """Fields of the versions at ``place``, null where it is -1 or the version is too old; shape (N, F)."""
    if not len(versions):
        return versions.fields.clear(len(place))
    found = place >= 0
    age = at - versions.event_time.take(place, mode="clip")
    if (found & (age < 0)).any():
        raise BrokenPromise("as-of join", "a value from after its row", "report this as a fault")
    if max_age is not None:
        found &= age <= max_age // _MICROSECOND
    # Gathering with nulls among the places takes three times as long as masking afterwards.
    chosen = pl.Series(np.maximum(place, 0).astype(np.uint32))
    values = versions.fields.select(pl.all().gather(chosen))
    if found.all():
        return values
    return values.select(pl.when(pl.Series(found)).then(pl.all()))


def _comparable(mine: pl.DataType, theirs: pl.DataType, key: str, where: str) -> pl.DataType:
    """The type in which two key columns are compared.

    Signed beside unsigned 64-bit integers meet as unsigned ones: what does not fit has no equal.
    """
    text = (pl.String, pl.Categorical, pl.Enum)
    if mine.is_integer() and theirs.is_integer() and not {mine, theirs} & {pl.Int128(), pl.UInt128()}:
        return pl.UInt64() if pl.UInt64() in (mine, theirs) else pl.Int64()
    if isinstance(mine, text) and isinstance(theirs, text):
        return pl.String()
    if mine == theirs and not (mine.is_float() or mine.is_nested()):
        return mine
    raise SchemaDrift(
        f"{where}: key {key!r}", f"{mine} in the rows, {theirs} in the view", "use one type for both"
    )
