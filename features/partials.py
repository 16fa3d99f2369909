"""Partial states of the events of one entity and one day or hour, and what they merge into.

A state of some events and the state of others merge into the state of them all, in any order and grouping:
bit for bit the same, but for sums of floats, where the terms of one merge are added in rising order, so that
one merge is the same in any order but two merges in a row may differ in the last digit from one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import polars as pl

from features import distinct
from features.aggregates import DAY, HOUR, State, Windowed, merged, needed
from features.as_of_ready import check_fields
from features.errors import NotFinite, SchemaDrift, UsageError
from features.instants import microseconds

#: Times and identity of an event, in the order in which a ``last`` compares them.
EVENT = ("occurred_at", "arrived_at", "event_id")


def partials(
    events: pl.LazyFrame, aggregates: Iterable[Windowed], *, keys: Sequence[str], bucket: Sequence[str]
) -> pl.LazyFrame:
    """One row per entity and bucket with the states that the aggregates need, sorted.

    Args:
        events: the keys, the bucket, ``occurred_at``, ``arrived_at``, columns of values, ``kind`` if an
            aggregate names an action, ``event_id`` if there is one; in any order. Of events with one kind
            and id the first to arrive counts. One that lacks a key, a bucket or a time never does.
        aggregates: their windows do not matter here.
        keys: columns that name the entity.
        bucket: columns ``day``, or ``day`` and ``hour``; the zone is known to whoever made them.

    Returns:
        The keys, the bucket, and the columns of every state.

    Raises:
        SchemaDrift: a column is missing or of a type that the operation does not take.
        NotFinite: on collecting: NaN or an infinity among values to add or compare.
    """
    states = all_states(aggregates)
    schema = events.collect_schema()
    identity = [name for name in ("kind", "event_id") if name in schema]
    check_events(schema, states, [*keys, *bucket])
    clocks = [
        microseconds(name, schema[name], up=True).cast(pl.Datetime("us")).alias(name)
        for name in ("occurred_at", "arrived_at")
    ]
    told = events.select(
        *dict.fromkeys([*keys, *bucket, *identity]),
        *(pl.col(name).alias(f"__{name}") for name in values_of(states)),
        *clocks,
    )
    whole = finite(told.drop_nulls([*keys, *bucket, "occurred_at", "arrived_at"]))
    by = [*keys, *bucket]
    counted = once(whole) if "event_id" in identity else whole
    return counted.group_by(by).agg(one for state in states for one in _fresh(state, schema)).sort(by)


def merge(parts: pl.LazyFrame, states: Iterable[State], by: Sequence[str]) -> pl.LazyFrame:
    """One row per value of ``by`` with the states of all its parts, sorted."""
    schema = parts.collect_schema()
    return parts.group_by(by).agg(one for state in states for one in _together(state, schema)).sort(by)


def snapshot(
    daily: pl.LazyFrame,
    aggregates: Sequence[Windowed],
    *,
    keys: Sequence[str],
    valid_from: date,
    hourly: pl.LazyFrame | None = None,
    starts_at: datetime | None = None,
) -> pl.LazyFrame:
    """The aggregates of every entity as of the start of a day, from what had arrived by then.

    A window of n days is the n logical days before ``valid_from``, each as long as the clocks make it; a
    shorter window ends at the day's first instant.

    Args:
        daily: parts with ``day``, of the events that had arrived; several rows per entity and day.
        aggregates: what to compute. Windows are whole days, or whole hours less than a day.
        keys: columns that name the entity.
        valid_from: the day.
        hourly: parts with ``hour`` (naive UTC, where an hour begins, counted back from the day's end).
        starts_at: the first instant of ``valid_from``, naive UTC; needed with ``hourly``.

    Returns:
        Keys and aggregates by name, sorted by key; one row for each entity with a part in any window.

    Raises:
        UsageError: a window that is neither, or one of hours without hourly parts.
    """
    asked = needed(aggregates)
    values = over(daily, asked, keys=keys, valid_from=valid_from, hourly=hourly, starts_at=starts_at)
    return values.select(*keys, *(one.expr.alias(one.name) for one in dict.fromkeys(aggregates))).sort(keys)


def over(
    daily: pl.LazyFrame,
    asked: Mapping[timedelta, tuple[State, ...]],
    *,
    keys: Sequence[str],
    valid_from: date,
    hourly: pl.LazyFrame | None = None,
    starts_at: datetime | None = None,
) -> pl.LazyFrame:
    """The states of ``snapshot`` merged over their windows, in columns named by ``aggregates.merged``."""
    days = {window: some for window, some in asked.items() if not window % DAY}
    hours = {window: some for window, some in asked.items() if window % DAY}
    if bad := [str(window) for window in hours if window > DAY or window % HOUR]:
        raise UsageError(
            f"snapshot of {valid_from}", f"windows {bad}", "use whole days, or hours below a day"
        )
    found = []
    if days:
        found.append(_over(daily, days, keys, "day", valid_from))
    if hours:
        if hourly is None or starts_at is None:
            raise UsageError(
                f"snapshot of {valid_from}", "windows of hours, but no parts", "give hourly parts"
            )
        found.append(_over(hourly, hours, keys, "hour", starts_at))
    if len(found) == 1:
        return found[0]
    zero = [merged(state, window) for window, some in asked.items() for state in some if state.zero]
    return (
        found[0]
        .join(found[1], on=list(keys), how="full", coalesce=True)
        .with_columns(pl.col(zero).fill_null(0))
    )


def all_states(aggregates: Iterable[Windowed]) -> tuple[State, ...]:
    """Every state that the aggregates need, once."""
    return tuple(dict.fromkeys(state for some in needed(aggregates).values() for state in some))


def values_of(states: Iterable[State]) -> tuple[str, ...]:
    """The columns of values that the states describe."""
    return tuple(dict.fromkeys(state.column for state in states if state.column is not None))


def once(events: pl.LazyFrame) -> pl.LazyFrame:
    """Each event once: of equal kind and id the first to arrive; equal arrivals go by the whole content."""
    columns = events.collect_schema().names()
    identity = [name for name in ("kind", "event_id") if name in columns]
    order = [*identity, "arrived_at", "occurred_at"]

    def deduplicated(rows: pl.DataFrame) -> pl.DataFrame:
        if not rows.select(identity).is_duplicated().any():
            return rows
        total = [*order, *(name for name in columns if name not in order)]
        return rows.sort(total).unique(identity, keep="first", maintain_order=True)

    return events.map_batches(
        deduplicated, predicate_pushdown=False, projection_pushdown=False, slice_pushdown=False
    )


def finite(events: pl.LazyFrame) -> pl.LazyFrame:
    """The same events, unless one has a float that is not finite; -0.0 becomes 0.0."""
    floats = [name for name, dtype in events.collect_schema().items() if dtype.is_float()]

    def checked(rows: pl.DataFrame) -> pl.DataFrame:
        for name in floats:
            strange = rows[name].filter(~rows[name].is_finite())
            if len(strange):
                raise NotFinite(
                    f"values {name!r} of windows", f"{len(strange)} such as {strange[0]}", "quarantine them"
                )
        return rows.with_columns(pl.col(floats) + 0.0)

    return events.map_batches(checked) if floats else events


def check_events(schema: pl.Schema, states: Sequence[State], keys: Sequence[str]) -> None:
    """Refuse events that lack a column, or whose values an operation does not take.

    Raises:
        SchemaDrift: names the column.
    """
    kind = ["kind"] if any(state.action is not None for state in states) else []
    identity = ["event_id"] if any(state.merge == "last" for state in states) else []
    where = "events of windows"
    check_fields(schema, [*keys, *EVENT[:2], *kind, *identity, *values_of(states)], where)
    for state in states:
        kind_of = schema[state.column] if state.column is not None else pl.Int64()
        text = isinstance(kind_of, pl.String)
        whole = kind_of.is_integer() and kind_of not in (pl.Int128(), pl.UInt128())
        takes = {
            "sum": whole or kind_of.is_float() or state.counts,
            "min": whole or kind_of.is_float() or kind_of.is_temporal(),
            "max": whole or kind_of.is_float() or kind_of.is_temporal(),
            "last": not kind_of.is_nested(),
            "union": whole or text or kind_of.is_temporal() or kind_of == pl.Boolean(),
            "sketch": whole or text,
        }
        if not takes[state.merge]:
            raise SchemaDrift(
                f"{where}: {state.name}",
                f"column {state.column!r} is {kind_of}",
                "convert it, or leave it out",
            )


def _fresh(state: State, schema: pl.Schema) -> list[pl.Expr]:
    """The state of some events, as aggregations."""

    def of(name: str) -> pl.Expr:
        return pl.col(name) if state.action is None else pl.col(name).filter(pl.col("kind") == state.action)

    value = of(f"__{state.column}" if state.column is not None else "occurred_at")
    if state.counts:
        return [value.count().cast(pl.Int64).alias(state.name)]
    match state.merge:
        case "sum" if state.column is not None and not schema[state.column].is_float():
            found = [value.cast(pl.Int64).sum()]
        case "sum":
            found = [value.sort().sum()]
        case "min":
            found = [value.min()]
        case "max":
            found = [value.max()]
        case "last":
            order = [of(name) for name in EVENT]
            found = [one.sort_by(order).last() for one in (value, *order)]
        case "union":
            found = [value.drop_nulls().unique().sort()]
        case "sketch":
            hashed = pl.col(f"__{state.column}").map_batches(
                distinct.entries, return_dtype=pl.Int32, is_elementwise=True
            )
            kept = hashed if state.action is None else hashed.filter(pl.col("kind") == state.action)
            found = [distinct.registers(kept)]
    return [one.alias(name) for one, name in zip(found, state.columns, strict=True)]


def _together(state: State, schema: pl.Schema, inside: pl.Expr | None = None) -> list[pl.Expr]:
    """The state of the events of several parts, as aggregations; of those ``inside``, if that is given."""

    def of(name: str) -> pl.Expr:
        return pl.col(name) if inside is None else pl.col(name).filter(inside)

    match state.merge:
        case "sum" if schema[state.name].is_float():
            found = [of(state.name).sort().sum()]
        case "sum":
            found = [of(state.name).sum()]
        case "min":
            found = [of(state.name).min()]
        case "max":
            found = [of(state.name).max()]
        case "last":
            order = [of(name) for name in state.columns[1:]]
            found = [of(name).sort_by(order).last() for name in state.columns]
        case "union":
            found = [of(state.name).explode().drop_nulls().unique().sort()]
        case "sketch":
            found = [distinct.registers(of(state.name).explode())]
    return [one.alias(name) for one, name in zip(found, state.columns, strict=True)]


def _over(
    parts: pl.LazyFrame,
    windows: dict[timedelta, tuple[State, ...]],
    keys: Sequence[str],
    bucket: str,
    end: date | datetime,
) -> pl.LazyFrame:
    """Every state over every window that ends at ``end``, one row per entity."""
    schema = parts.collect_schema()
    kept = parts.filter((pl.col(bucket) >= end - max(windows)) & (pl.col(bucket) < end))
    found: list[pl.Expr] = []
    sketches = []
    for window, states in windows.items():
        inside = pl.col(bucket) >= end - window
        for state in states:
            name = merged(state, window)
            value, *_ = _together(state, schema, inside)
            if state.merge == "union":
                value = pl.col(state.name).filter(inside).explode().drop_nulls().n_unique().cast(pl.Int64)
            elif state.merge == "sketch":
                value = distinct.summary(pl.col(state.name).filter(inside).explode())
                sketches.append(distinct.estimate(pl.col(name)).alias(name))
            found.append(value.alias(name))
    return kept.group_by(keys).agg(found).with_columns(sketches)
