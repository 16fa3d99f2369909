"""Aggregates over windows that end at each row's own instant, exact, by event time and by arrival.

An event counts at t if it happened in [t - window, t) and had arrived by t. An event at exactly t is out:
an impression must not count itself. One that arrived at exactly t is in, as ``pit_join`` has it: what is
visible at an instant is known at it. ``features.seen`` finds the rows that see an event, and
``features.spans`` what follows for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features.aggregates import State, Windowed, needed
from features.as_of_ready import check_fields
from features.errors import NoInstant, SchemaDrift, UsageError
from features.exact_sums import Int64s
from features.instants import microseconds
from features.partials import check_events, finite, once, values_of
from features.seen import Elements, Parts, Seen

#: Rows that are worked on together, with the events of their keys; a key with more rows is a block.
BLOCK = 1_000_000
_US = timedelta(microseconds=1)


def windows_at(
    rows: pl.DataFrame,
    events: pl.LazyFrame,
    aggregates: Sequence[Windowed],
    *,
    keys: Sequence[str],
    at: str,
    parts: Parts | None = None,
    unique: bool = False,
) -> pl.DataFrame:
    """Add to each row what had happened to its entity in the windows before the row's instant, as known then.

    Args:
        rows: what to add to; every row comes back once and in its place. A null key has no events.
        events: the keys, ``occurred_at``, ``arrived_at`` (any unit and zone, without a zone UTC), columns of
            values, ``kind`` if an aggregate names an action, ``event_id`` for ``last`` and to find repeated
            events, in any order. Of events with one kind and id, the first to arrive counts. An event that
            lacks a key or a time never does.
        aggregates: what to add; all but ``distinct_approx``, which ``distinct`` answers exactly here.
        keys: key columns of both sides.
        at: column of ``rows``: the instant.
        parts: states that spare events: beside them only those events need be given that arrived from
            ``parts.until`` on, and those of the buckets that ``parts.ragged`` names.
        unique: the caller vouches that no event repeats.

    Returns:
        ``rows`` with one column per aggregate, of its name. A sum of floats is the exact sum, rounded.

    Raises:
        UsageError: a column is there already, a sketch is asked for, or a row lies before ``parts.until``.
        SchemaDrift: a column is missing or of a type that the operation or the other side does not take.
        NoInstant: a row's instant is null.
        NotFinite: NaN or an infinity among values to add or compare.
    """
    where = f"windows of {', '.join(one.name for one in aggregates)}"
    if not aggregates:
        raise UsageError(where, "no aggregate", "name at least one")
    if taken := [one.name for one in aggregates if one.name in rows.columns]:
        raise UsageError(where, f"rows already have columns {taken}", "rename them, or the entity")
    values = states_at(rows, events, needed(aggregates), keys=keys, at=at, parts=parts, unique=unique)
    return rows.hstack(values.select(one.expr.alias(one.name) for one in dict.fromkeys(aggregates)))


def states_at(
    rows: pl.DataFrame,
    events: pl.LazyFrame,
    asked: Mapping[timedelta, tuple[State, ...]],
    *,
    keys: Sequence[str],
    at: str,
    parts: Parts | None = None,
    unique: bool = False,
) -> pl.DataFrame:
    """The states behind ``windows_at`` merged over their windows, one row per row of ``rows``.

    Args:
        rows: as there, as are the others.
        events: of these only the columns are read that the states need.
        asked: states by window, at least one.
        keys: key columns.
        at: column of the instant.
        parts: states of earlier events.
        unique: no event repeats.

    Returns:
        Columns named by ``aggregates.merged``.
    """
    states = tuple(dict.fromkeys(state for some in asked.values() for state in some))
    where = f"windows of {', '.join(state.name for state in states)}"
    check_fields(rows.schema, [*keys, at], f"{where}: rows")
    if not keys:
        raise UsageError(where, "no key", "name at least one")
    if sketched := [state.name for state in states if state.merge == "sketch"]:
        raise UsageError(where, f"{sketched} are sketches", "use distinct, which is exact at any instant")
    placed, entities = _placed(rows, keys, at, where)
    code, instant = placed["code"].to_numpy(), placed["at"].to_numpy()
    first, last = (int(edge) for edge in (instant.min(), instant.max())) if len(instant) else (0, 0)
    if parts is not None and len(instant) and first < _us(parts.until):
        raise UsageError(
            where, f"a row lies before {parts.until}, until when the parts were made", "use earlier parts"
        )
    oldest = first - max(asked) // _US
    elements = Elements(
        events=_events(events, states, entities, (oldest, last), parts, unique),
        parts=None if parts is None else _parts(parts, states, entities, oldest),
    )
    blocks = []
    for rows_from, rows_to in _blocks(code, last - first + 2):
        those = slice(rows_from, rows_to)
        keys_from, keys_to = (int(code[rows_from]), int(code[rows_to - 1]) + 1) if rows_to else (0, 0)
        seen = Seen(code[those] - keys_from, instant[those], elements.slice(keys_from, keys_to))
        blocks.append(pl.DataFrame([s for window, some in asked.items() for s in seen.merged(window, some)]))
    place = np.empty(len(placed), np.int64)
    place[placed["row"].to_numpy()] = np.arange(len(placed))
    return pl.concat(blocks, rechunk=True)[place]


def _placed(
    rows: pl.DataFrame, keys: Sequence[str], at: str, where: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows by key and instant: ``row``, ``code``, ``at`` (us); and the keys of each code, sorted.

    Rows with a null in their key share the code behind the last one, which no event has.
    """
    instants = microseconds(at, rows.schema[at], up=False)
    if rows[at].null_count():
        raise NoInstant(where, f"{rows[at].null_count()} rows have null {at!r}", "quarantine them before")
    entities = rows.select(keys).drop_nulls().unique().sort(keys)
    entities = entities.with_columns(__code=pl.int_range(len(entities), dtype=pl.Int64))
    asked = rows.lazy().select(*keys, __at=instants).with_row_index("__row")
    placed = (
        asked.join(entities.lazy(), on=list(keys), how="left")
        .select(row="__row", code=pl.col("__code").fill_null(len(entities)), at="__at")
        .sort("code", "at", "row")
        .collect()
    )
    return placed, entities


def _events(
    events: pl.LazyFrame,
    states: tuple[State, ...],
    entities: pl.DataFrame,
    reach: tuple[int, int],
    parts: Parts | None,
    unique: bool,
) -> pl.DataFrame:
    """What rows can see that ask within ``reach`` (us), by code; see ``Elements``."""
    schema, keys = events.collect_schema(), entities.columns[:-1]
    bucket = [] if parts is None else [parts.bucket]
    check_events(schema, states, [*keys, *bucket])
    identity = [name for name in ("kind", "event_id") if name in schema]
    clocks = [microseconds(name, schema[name], up=True).alias(name) for name in ("occurred_at", "arrived_at")]
    told = events.select(
        *(_like(schema[key], entities.schema[key], key).alias(f"__key_{key}") for key in keys),
        *dict.fromkeys([*identity, *bucket, *(name for name in values_of(states))]),
        *clocks,
    )
    oldest, last = reach
    # What arrives too late to be seen may be left out before a repeated event is looked for.
    named = ["occurred_at", "arrived_at", *bucket, *(f"__key_{key}" for key in keys)]
    known = told.drop_nulls(named).filter(pl.col("arrived_at") <= last)
    if not unique and "event_id" in identity:
        known = once(known)
    seen = known.filter(pl.col("occurred_at").is_between(oldest, last - 1)).rename(
        {"occurred_at": "__event", "arrived_at": "__arrived"}
    )
    coded = seen.join(
        entities.lazy().rename({key: f"__key_{key}" for key in keys}), on=[f"__key_{key}" for key in keys]
    ).drop(f"__key_{key}" for key in keys)
    placed = finite(coded)
    if parts is None:
        placed = placed.with_columns(__b0=pl.lit(None, pl.Int64), __b1=pl.lit(None, pl.Int64))
    else:
        inside = pl.col("__arrived") < _us(parts.until)
        placed = _in_buckets(placed, parts).with_columns(pl.when(inside).then(pl.col("__b0", "__b1")))
    return placed.sort("__code").collect()


def _parts(parts: Parts, states: tuple[State, ...], entities: pl.DataFrame, oldest: int) -> pl.DataFrame:
    """Parts whose bucket begins at ``oldest`` (us) or later, by code; see ``Elements``."""
    schema, keys = parts.rows.collect_schema(), entities.columns[:-1]
    columns = [column for state in states for column in state.columns]
    check_fields(schema, [*keys, parts.bucket, *columns], "parts of windows")
    told = parts.rows.select(
        *(_like(schema[key], entities.schema[key], key) for key in keys), parts.bucket, *columns
    )
    coded = told.join(entities.lazy(), on=keys).drop(keys)
    return _in_buckets(coded, parts).filter(pl.col("__b0") >= oldest).sort("__code").collect()


def _in_buckets(rows: pl.LazyFrame, parts: Parts) -> pl.LazyFrame:
    """Add where the bucket of each row begins and ends, ``__b0`` and ``__b1`` (us)."""
    edges = parts.calendar.lazy().select(
        parts.bucket, __b0=pl.col("starts_at").to_physical(), __b1=pl.col("ends_at").to_physical()
    )

    def known(placed: pl.DataFrame) -> pl.DataFrame:
        if placed["__b0"].null_count():
            strange = placed.filter(pl.col("__b0").is_null())[parts.bucket]
            raise UsageError(
                f"calendar of {parts.bucket}s",
                f"{strange[0]} and others are not in it ({len(strange)} rows)",
                "give a calendar of all buckets of the events and parts",
            )
        return placed

    return rows.join(edges, on=parts.bucket, how="left").map_batches(
        known, predicate_pushdown=False, slice_pushdown=False
    )


def _blocks(code: Int64s, reach: int) -> Iterator[tuple[int, int]]:
    """Where blocks of rows begin and end; no key is in two, and one number can hold a key and an instant."""
    most_keys = 2**62 // reach
    start = 0
    while start < len(code):
        end = int(
            np.searchsorted(
                code, min(code[start] + most_keys, code[min(start + BLOCK, len(code)) - 1]), "right"
            )
        )
        yield start, end
        start = end
    if not len(code):
        yield 0, 0


def _like(theirs: pl.DataType, mine: pl.DataType, key: str) -> pl.Expr:
    """The events' key in the type of the rows'; what does not fit becomes null and has no equal."""
    if theirs == mine or (theirs.is_integer() and mine.is_integer()):
        return pl.col(key).cast(mine, strict=False)
    raise SchemaDrift(f"key {key!r} of windows", f"{mine} in the rows, {theirs} beside them", "use one type")


def _us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1)) // _US
