"""Turn a view's history into rows that one inequality can be asked of: what was visible at an instant?

A version of a value has two clocks: the event it speaks of and its arrival. It is visible from the later of
the two. Of all visible versions the one of the latest event counts, of those the latest arrival. So a version
that arrives when a later event is already known never counts: it is dropped here, and the version to use at
an instant is simply the last one visible by then.

The order is total. It ends in the content: equal versions are one, and versions that agree in key, event and
arrival but not in their values are refused, because only their place in a file could tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

import polars as pl

from features.errors import AmbiguousHistory, SchemaDrift, UsageError
from features.instants import microseconds

VISIBLE_FROM = "visible_from"
EVENT_TIME = "event_time"
_ARRIVED_AT = "arrived_at"
_MICROSECOND = timedelta(microseconds=1)


def as_of_ready(
    rows: pl.LazyFrame,
    *,
    keys: Sequence[str],
    event_time: str,
    arrived_at: str | None = None,
    fields: Sequence[str] | Mapping[str, pl.DataType],
    publish_delay: timedelta | None = None,
    max_skew: timedelta | None = None,
) -> pl.LazyFrame:
    """The history of a view, ready for ``pit_join``.

    Args:
        rows: one row per key, event time and arrival, in any order. A null key, event time or arrival can
            never be visible; such rows are dropped.
        keys: columns that name the entity.
        event_time: when what the row says happened; any unit and zone, without a zone UTC.
        arrived_at: when we could first read the row; null while it is not known to have been readable.
        fields: columns to keep, or columns with their declared types.
        publish_delay: how long after its event a row becomes readable, for a source without arrival times.
            Exactly one of ``arrived_at`` and ``publish_delay`` is given.
        max_skew: how far an event may lie after its arrival; ``None`` accepts any (a price announced for
            tomorrow). Rows beyond it belong into quarantine before this.

    Returns:
        The key columns, ``visible_from`` and ``event_time`` (naive UTC us, rounded up), the fields. One row
        per key and ``visible_from``, sorted by them; ``event_time`` never falls within a key.

    Raises:
        UsageError: no key; no second clock, or two; a field named like a key or a clock.
        SchemaDrift: a column is missing or has another type than declared.
        AmbiguousHistory: on collecting: equal key, event and arrival with different values, or more skew.
    """
    if (arrived_at is None) == (publish_delay is None):
        raise UsageError(
            f"history of {', '.join(keys)}",
            "needs either an arrival column or a publish delay",
            "name the column that says when a row became readable, or declare how long that takes",
        )
    if not keys:
        raise UsageError("history of a view", "no key", "name at least one, if need be a constant column")
    if publish_delay is not None and publish_delay < timedelta(0):
        raise UsageError(f"history of {', '.join(keys)}", f"publish delay {publish_delay}", "give 0 or more")
    schema = rows.collect_schema()
    check_fields(schema, fields, f"history of {', '.join(keys)}")
    check_fields(schema, [*keys, event_time, *filter(None, [arrived_at])], f"history of {', '.join(keys)}")
    clocks = {VISIBLE_FROM, EVENT_TIME, _ARRIVED_AT}
    if taken := clocks & {*keys, *fields} | {*keys} & {*fields}:
        raise UsageError(
            f"columns {sorted(taken)}", "named like a clock, or both key and field", "rename them"
        )

    event = microseconds(event_time, schema[event_time], up=True)
    if arrived_at is not None:
        arrival = microseconds(arrived_at, schema[arrived_at], up=True)
    else:
        arrival = event + (publish_delay or timedelta(0)) // _MICROSECOND
    # Null for a null arrival: max_horizontal alone would take the event time.
    visible = pl.when(arrival.is_not_null()).then(pl.max_horizontal(event, arrival))
    versions = (
        rows.select(
            *keys,
            visible.alias(VISIBLE_FROM),
            event.alias(EVENT_TIME),
            arrival.alias(_ARRIVED_AT),
            *fields,
        )
        .drop_nulls([*keys, VISIBLE_FROM, EVENT_TIME])
        .sort(*keys, VISIBLE_FROM, EVENT_TIME, _ARRIVED_AT)
        .map_batches(partial(_refuse_ambiguous, keys=list(keys), max_skew=max_skew))
    )
    return _raising(versions, keys).with_columns(
        pl.col(VISIBLE_FROM, EVENT_TIME).cast(pl.Datetime("us")),
    )


def check_fields(schema: pl.Schema, fields: Sequence[str] | Mapping[str, pl.DataType], where: str) -> None:
    """Refuse a view that is not as declared, before anything is computed from it.

    Raises:
        SchemaDrift: names every column that is missing or of another type.
    """
    faults = [f"missing column {name!r}" for name in fields if name not in schema]
    if isinstance(fields, Mapping):
        faults += [
            f"column {name!r} is {schema[name]}, declared {dtype}"
            for name, dtype in fields.items()
            if name in schema and schema[name] != dtype
        ]
    if faults:
        raise SchemaDrift(where, "; ".join(faults), "correct the source, or the declaration of the view")


def starts_run(columns: Sequence[str]) -> pl.Expr:
    """Whether a row is the first, or differs from the row above in any of ``columns``, which hold no null."""
    return pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in columns)


def _refuse_ambiguous(versions: pl.DataFrame, *, keys: list[str], max_skew: timedelta | None) -> pl.DataFrame:
    """The same sorted versions, unless some of them have no order. Repetitions are no harm."""
    if max_skew is not None:
        ahead = versions.filter(pl.col(EVENT_TIME) - pl.col(_ARRIVED_AT) > max_skew // _MICROSECOND)
        if len(ahead):
            raise AmbiguousHistory(
                f"history of {', '.join(keys)}",
                f"{len(ahead)} rows happened more than {max_skew} after they arrived, such as those of "
                f"{_examples(ahead, keys)}",
                "quarantine them, or allow a greater skew",
            )
    version = [*keys, EVENT_TIME, _ARRIVED_AT]
    fresh = versions.select(starts_run(version)).to_series()
    repeated = versions.filter(~fresh | ~fresh.shift(-1, fill_value=True)).unique(maintain_order=True)
    clashing = repeated.filter(~repeated.select(starts_run(version)).to_series())
    if len(clashing):
        raise AmbiguousHistory(
            f"history of {', '.join(keys)}",
            f"{clashing.select(version).n_unique()} versions come with different values for one key, event "
            f"time and arrival, such as those of {_examples(clashing, keys)}",
            "give each version its own arrival time, or quarantine all but one",
        )
    return versions


def _raising(versions: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """Only versions that count from the instant at which they become visible.

    Sorted by visibility, a version raises the maximum of (event, arrival) exactly if no event before it is
    later: among equal events, the order of visibility is the order of arrival.
    """
    entity = "__entity"
    raising = versions.with_columns(starts_run(keys).cum_sum().alias(entity)).filter(
        pl.col(EVENT_TIME) == pl.col(EVENT_TIME).cum_max().over(entity)
    )
    overtaken = (pl.col(entity) == pl.col(entity).shift(-1)) & (
        pl.col(VISIBLE_FROM) == pl.col(VISIBLE_FROM).shift(-1)
    )
    return raising.filter(~overtaken.fill_null(False)).drop(entity, _ARRIVED_AT)


def _examples(rows: pl.DataFrame, keys: list[str]) -> str:
    return ", ".join(
        str(dict(row)) for row in rows.select(keys).unique(maintain_order=True).head(3).to_dicts()
    )
