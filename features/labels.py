"""What happened after each impression: attribution of events, finality by the clock, spaces.

Rules (all edges closed, all times naive UTC):

* An event belongs to at most one impression. If it carries an impression id, that impression or none;
  otherwise the last anchor of the same user and item (greatest impression id among equal times).
* The anchor is the exposure, or the first event of the objective that this one is given.
* The event lies within the objective's window after its anchor, or up to ``skew`` before it.
* An event that belongs to no anchor is an orphan: counted and quarantined, never a label.
* A label is final when the clock says that no event can change it any more, whatever its value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.funnel import Funnel, Objective

_EVENT = ("event_id", "impression_id", "user_id", "item_id", "occurred_at")


@dataclass(frozen=True)
class Attribution:
    """Labels of impressions and the events that found none.

    Attributes:
        labels: one row per impression: ``impression_id`` and per objective ``y_*`` (Int8) and ``*_at``.
        orphans: per objective, the events that belong to no impression, with all their columns.
    """

    labels: pl.LazyFrame
    orphans: Mapping[str, pl.LazyFrame]


def attribute(
    impressions: pl.LazyFrame, events: Mapping[str, pl.LazyFrame], funnel: Funnel, *, skew: timedelta
) -> Attribution:
    """Attribute every event to its impression.

    Args:
        impressions: ``impression_id``, ``user_id``, ``item_id``, ``exposed_at``; unique by id.
        events: per objective, rows of its log: ``event_id``, ``impression_id`` (null where the log has
            none), ``user_id``, ``item_id``, ``occurred_at``; unique by event id.
        funnel: the objectives.
        skew: how long before its anchor an event may lie.
    """
    labels = impressions.select("impression_id", "user_id", "item_id", "exposed_at")
    orphans: dict[str, pl.LazyFrame] = {}
    for objective in funnel:
        anchor = pl.col("exposed_at") if objective.given is None else pl.col(funnel[objective.given].occurred)
        anchors = labels.select("impression_id", "user_id", "item_id", anchor_at=anchor).drop_nulls(
            "anchor_at"
        )
        owned = _owners(events[objective.name], anchors, objective, skew)
        first = owned.group_by("impression_id").agg(pl.col("occurred_at").min().alias(objective.occurred))
        labels = labels.join(first, on="impression_id", how="left", validate="1:1").with_columns(
            pl.col(objective.occurred).is_not_null().cast(pl.Int8).alias(objective.label)
        )
        orphans[objective.name] = events[objective.name].join(owned, on="event_id", how="anti")
    return Attribution(labels.drop("user_id", "item_id", "exposed_at"), orphans)


def _owners(
    events: pl.LazyFrame, anchors: pl.LazyFrame, objective: Objective, skew: timedelta
) -> pl.LazyFrame:
    """``event_id``, ``impression_id`` and ``occurred_at`` of the events that belong to an anchor."""
    in_window = (pl.col("occurred_at") >= pl.col("anchor_at") - skew) & (
        pl.col("occurred_at") <= pl.col("anchor_at") + objective.window
    )
    events = events.select(_EVENT)
    by_id = events.join(anchors.select("impression_id", "anchor_at"), on="impression_id").filter(in_window)
    # Both sides are sorted here: with `by`, Polars does not check the order and would answer wrongly.
    touches = (
        events.filter(
            pl.col("impression_id").is_null()
            & pl.col("user_id").is_not_null()
            & pl.col("item_id").is_not_null()
        )
        .drop("impression_id")
        .with_columns(latest_anchor=pl.col("occurred_at") + skew)
        .sort("latest_anchor", "event_id")
    )
    by_touch = touches.join_asof(
        anchors.sort("anchor_at", "impression_id"),
        left_on="latest_anchor",
        right_on="anchor_at",
        by=["user_id", "item_id"],
        strategy="backward",
        coalesce=False,
        check_sortedness=False,
    ).filter(pl.col("impression_id").is_not_null() & in_window)
    columns = ("event_id", "impression_id", "occurred_at")
    return pl.concat([by_id.select(columns), by_touch.select(columns)])


def final_at(funnel: Funnel, name: str, lateness: timedelta) -> pl.Expr:
    """The last instant at which the label of ``name`` can still change, by the clock alone.

    An impression that arrives late cannot be final before it is known.
    """
    closes = pl.col("exposed_at") + funnel.closes_after(name) + lateness
    return pl.max_horizontal(closes, pl.col("arrived_at"))


def finality(funnel: Funnel, lateness: timedelta, watermark: datetime) -> list[pl.Expr]:
    """``final_*`` per objective: all that could change the label lies before ``watermark``.

    What happens or arrives at the watermark itself belongs to the next run, as days are half-open.
    """
    return [
        (final_at(funnel, objective.name, lateness) < watermark).alias(objective.final)
        for objective in funnel
    ]


def spaces(funnel: Funnel) -> list[pl.Expr]:
    """``in_space_*`` per objective: every impression, or those whose parent happened."""
    return [
        (pl.lit(True) if o.given is None else pl.col(funnel[o.given].label) == 1).alias(o.space)
        for o in funnel
    ]


def newly_final(funnel: Funnel, name: str, lateness: timedelta, since: datetime, until: datetime) -> pl.Expr:
    """Whether the label of ``name`` was open at watermark ``since`` and is final at ``until``: it trains now.

    Over a chain of runs whose watermarks follow each other, every impression trains every objective once.
    A row that arrives with the next day's delivery arrives at that day's first instant, which is the
    watermark of the run before: it must fall to the run that knows it.
    """
    instant = final_at(funnel, name, lateness)
    return (instant >= since) & (instant < until)
