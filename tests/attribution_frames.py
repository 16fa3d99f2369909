"""Rows of ``attribution_by_hand`` as frames for ``features.labels``, and its answer as plain rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
from attribution_by_hand import Back, Done, Shown, heard

from features.funnel import Funnel
from features.labels import attribute, labelled, once

TIME = pl.Datetime("us")
VALUE = "amount"
Row = dict[str, object]


def impressions_frame(rows: Sequence[Shown]) -> pl.LazyFrame:
    """Rows of an impression source."""
    columns = {"impression_id": pl.String, "user_id": pl.Int64, "item_id": pl.String}
    return pl.LazyFrame(
        [(r.id, r.user, r.item, r.at, heard(r)) for r in rows],
        schema={**columns, "exposed_at": TIME, "arrived_at": TIME},
        orient="row",
    )


def events_frame(rows: Sequence[Done]) -> pl.LazyFrame:
    """Rows of an event source with a value."""
    columns = {"event_id": pl.String, "impression_id": pl.String, "user_id": pl.Int64, "item_id": pl.String}
    return pl.LazyFrame(
        [(r.id, r.impression, r.user, r.item, r.at, heard(r), r.value) for r in rows],
        schema={**columns, "occurred_at": TIME, "arrived_at": TIME, VALUE: pl.Int64},
        orient="row",
    )


def reversals_frame(rows: Sequence[Back]) -> pl.LazyFrame:
    """Rows of a source of reversals."""
    columns = {"event_id": pl.String, "reverses": pl.String}
    return pl.LazyFrame(
        [(r.id, r.reverses, r.at, heard(r), r.value) for r in rows],
        schema={**columns, "occurred_at": TIME, "arrived_at": TIME, VALUE: pl.Int64},
        orient="row",
    )


@dataclass(frozen=True)
class Answer:
    """What ``attribute`` said.

    Attributes:
        labels: by impression.
        owner: per objective, by event; orphans have none.
        idle: per objective, ids of reversals that take nothing back.
    """

    labels: Mapping[str, Row]
    owner: Mapping[str, Mapping[str, str | None]]
    idle: Mapping[str, set[str]]


def ask(
    impressions: Sequence[Shown],
    logs: Mapping[str, Sequence[Done]],
    funnel: Funnel,
    skew: timedelta,
    reversals: Mapping[str, Sequence[Back]] | None = None,
    as_of: datetime | None = None,
) -> Answer:
    """Attribute plain rows; every event must be told of exactly once."""
    told = attribute(
        impressions_frame(impressions),
        {name: events_frame(rows) for name, rows in logs.items()},
        funnel,
        skew=skew,
        reversals=None if reversals is None else {n: reversals_frame(rows) for n, rows in reversals.items()},
        as_of=as_of,
    )
    names = list(told.idle)
    frames = [told.labels, *told.owners.values(), *told.orphans.values(), *told.idle.values()]
    shown = once(impressions_frame(impressions), "impression_id", "arrived_at", "exposed_at")
    if as_of is not None:
        shown = shown.filter(pl.col("arrived_at") < as_of)
    frames[0] = labelled(shown.select("impression_id"), told.labels, funnel)
    labels, *rest = pl.collect_all(frames)
    owners, orphans, idle = rest[: len(funnel)], rest[len(funnel) : 2 * len(funnel)], rest[2 * len(funnel) :]
    owner: dict[str, dict[str, str | None]] = {}
    for name, owned, lost in zip(told.owners, owners, orphans, strict=True):
        ids = [*owned["event_id"], *lost["event_id"]]
        assert len(ids) == len(set(ids)), "an event is told of twice"
        owner[name] = {**dict(owned.select("event_id", "impression_id").iter_rows())}
        owner[name] |= dict.fromkeys(lost["event_id"])
    rows = {str(row["impression_id"]): row for row in labels.rows(named=True)}
    assert len(rows) == labels.height, "an impression has two rows"
    return Answer(rows, owner, {n: set(f["event_id"]) for n, f in zip(names, idle, strict=True)})
