"""What happened after each impression: attribution of events, finality by the clock, spaces.

Rules (all edges closed, all times naive UTC):

* What is known as of an instant is what arrived before it. Copies count once: the one known first stays.
* An event belongs to at most one impression. If it carries an impression id, that impression or none;
  otherwise that of the last touch of the same user and item (greatest impression id among equal times).
* A touch is an exposure, or any event of the objective that this one is given: the last click owns the
  order, and each click opens the order's window anew.
* The event lies within the objective's window after a touch, or up to ``skew`` before it. An instant before
  that of its parent counts as the parent's: a delay is never negative.
* An event that belongs to no touch is an orphan: counted and quarantined, never a label.
* Labels are net of what was taken back (``features.reversals``); with its last event, an objective takes
  back those that are given it.
* A label is final when the clock says that no event can change it any more, whatever its value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from features.funnel import Funnel, Objective
from features.owners import SHOWN, held, numbers, owned, per_impression, together
from features.reversals import NET, matched, net
from features.sieve import KEYS, Sieve, in_question


@dataclass(frozen=True)
class Attribution:
    """Labels of impressions, the owners of events, and the events that found none.

    Attributes:
        labels: one row per impression that owns an event, for ``labelled``: ``impression_id``,
            ``exposed_at`` and per objective ``n_*`` (Int32), ``v_*`` (Int64, if it has a value), ``*_at``,
            ``*_known_at``, and ``*_changed_at`` (when the last event or reversal that it owns became known).
        owners: per objective, ``event_id`` and the ``impression_id`` that it belongs to.
        orphans: per objective, the distinct events that belong to no impression, with all their columns.
        idle: per objective with reversals, those that take nothing back: no such event, or too late.
    """

    labels: pl.LazyFrame
    owners: Mapping[str, pl.LazyFrame]
    orphans: Mapping[str, pl.LazyFrame]
    idle: Mapping[str, pl.LazyFrame]


def attribute(
    impressions: pl.LazyFrame,
    events: Mapping[str, pl.LazyFrame],
    funnel: Funnel,
    *,
    skew: timedelta,
    reversals: Mapping[str, pl.LazyFrame] | None = None,
    as_of: datetime | None = None,
) -> Attribution:
    """Attribute every event to its impression.

    Args:
        impressions: ``impression_id``, ``user_id``, ``item_id``, ``exposed_at``, ``arrived_at``.
        events: per objective, rows of its log: ``event_id``, ``impression_id`` (null where the log has
            none), ``user_id``, ``item_id``, ``occurred_at``, ``arrived_at`` and its value if it has one.
        funnel: the objectives.
        skew: how long before its touch an event may lie.
        reversals: per objective that declares them, rows of their source: ``event_id``, ``reverses``,
            ``occurred_at``, ``arrived_at``, and the value where parts can be taken back.
        as_of: only what arrived before this instant is known; ``None`` knows all that is given.
    """
    logs: dict[str, pl.LazyFrame] = {}
    idle: dict[str, pl.LazyFrame] = {}
    for objective in funnel:
        name, back = objective.name, None
        if objective.reversals is not None and reversals is not None:
            back = held(distinct(known(reversals[name], as_of)))
        logs[name], nothing = settled(known(events[name], as_of), back, objective)
        if nothing is not None:
            idle[name] = nothing
    asked = Sieve(logs[o.name].select(pl.len()).collect().item() for o in funnel if o.given is None)
    for objective in funnel:
        if objective.given is None:
            asked.ask(logs[objective.name].select(KEYS).collect())
    found = in_question(shown(known(impressions, as_of)), asked)
    impressions_asked = once(pl.concat(found).lazy(), "impression_id", "shown_known_at", "exposed_at")
    return replace(attributed(held(impressions_asked), logs, funnel, skew), idle=idle)


def known(rows: pl.LazyFrame, as_of: datetime | None) -> pl.LazyFrame:
    """What had arrived before an instant; ``None`` knows all."""
    return rows if as_of is None else rows.filter(pl.col("arrived_at") < as_of)


def shown(impressions: pl.LazyFrame) -> pl.LazyFrame:
    """Of impressions, what ``attributed`` asks for."""
    return impressions.select(*KEYS, "exposed_at", shown_known_at="arrived_at")


def distinct(log: pl.LazyFrame) -> pl.LazyFrame:
    """Events or reversals without their copies."""
    return once(log, "event_id", "arrived_at", "occurred_at")


def settled(
    log: pl.LazyFrame, back: pl.LazyFrame | None, objective: Objective
) -> tuple[pl.LazyFrame, pl.LazyFrame | None]:
    """The distinct events of a log with what is left of them, and the reversals that take nothing back.

    Args:
        log: known events, copies among them.
        back: the distinct known reversals of these events, or of more; ``None`` if there can be none.
        objective: whose.
    """
    # Cached where a part of the plan is used twice: Polars would else plan (and run) a tree's copies.
    events = held(distinct(log))
    if back is None:
        return net(events, None, objective), None
    effective = matched(events, back, objective).select("reversal_id")
    idle = back.join(effective, left_on="event_id", right_on="reversal_id", how="anti")
    return held(net(events, back, objective)), idle


def attributed(
    impressions: pl.LazyFrame, logs: Mapping[str, pl.LazyFrame], funnel: Funnel, skew: timedelta
) -> Attribution:
    """Attribute settled events to distinct impressions; what takes nothing back is not told of.

    Args:
        impressions: as of ``shown``, without copies: at least those that an event could belong to.
        logs: per objective, as of ``settled``.
        funnel: the objectives.
        skew: how long before its touch an event may lie.
    """
    touches: dict[str | None, pl.LazyFrame] = {None: impressions.with_columns(touched_at="exposed_at")}
    told: dict[str, pl.LazyFrame] = {}
    owners: dict[str, pl.LazyFrame] = {}
    orphans: dict[str, pl.LazyFrame] = {}
    for objective in funnel:
        log = logs[objective.name]
        own = held(owned(log, touches[objective.given], objective, skew))
        touches[objective.name] = own.select(*SHOWN, touched_at="occurred_at")
        owners[objective.name] = own.select("event_id", "impression_id", "exposed_at")
        orphans[objective.name] = log.drop(NET, strict=False).join(own, on="event_id", how="anti")
        told[objective.name] = held(per_impression(own, objective))
    return Attribution(together(told, funnel), owners, orphans, {})


def labelled(impressions: pl.LazyFrame, labels: pl.LazyFrame, funnel: Funnel) -> pl.LazyFrame:
    """Add the columns of every objective to impressions: ``y_*`` (Int8), and zeros where nothing is known.

    Args:
        impressions: distinct rows with ``impression_id``; every row comes back once, in its place.
        labels: as ``attribute`` gives them.
        funnel: the objectives.
    """
    filled = [pl.col(name).fill_null(0) for o in funnel for name in numbers(o)]
    happened = [(pl.col(o.count) > 0).cast(pl.Int8).alias(o.label) for o in funnel]
    told = labels.drop("exposed_at")
    joined = impressions.join(told, on="impression_id", how="left", validate="m:1", maintain_order="left")
    return joined.with_columns(filled).with_columns(happened)


def once(rows: pl.LazyFrame, key: str, known_at: str, happened_at: str) -> pl.LazyFrame:
    """The rows without copies of one key: the one known first stays, then the earliest, then by content."""
    twice = rows.group_by(key).len().filter(pl.col("len") > 1).select(key)
    rest = sorted(set(rows.collect_schema().names()) - {key, known_at, happened_at})
    copies = rows.join(twice, on=key, how="semi", nulls_equal=True)
    kept = copies.sort(known_at, happened_at, *rest, nulls_last=True).unique(key, keep="first")
    return pl.concat([rows.join(twice, on=key, how="anti", nulls_equal=True), kept])


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


def label_state(funnel: Funnel) -> pl.Expr:
    """``fresh``, ``partial`` or ``mature``: no, some or all labels are final, by the clock alone."""
    final = [o.final for o in funnel]
    return (
        pl.when(pl.all_horizontal(final))
        .then(pl.lit("mature"))
        .when(pl.any_horizontal(final))
        .then(pl.lit("partial"))
        .otherwise(pl.lit("fresh"))
        .alias("label_state")
    )


def ripe_label(objective: Objective) -> pl.Expr:
    """The label where it says something: a positive at once, a negative when final, null before.

    For reports and delayed feedback. A training mask must not be made from it: it would take the positives
    of an hour without its negatives.
    """
    label = pl.col(objective.label)
    return pl.when(pl.col(objective.final) | (label == 1)).then(label).alias(objective.label)


def revised_at(funnel: Funnel, lateness: timedelta) -> pl.Expr:
    """When the last event or reversal became known that came after its label was final; null if none did."""
    late = [
        pl.when(pl.col(o.changed) > final_at(funnel, o.name, lateness)).then(pl.col(o.changed))
        for o in funnel
    ]
    return pl.max_horizontal(late).alias("revised_at")


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
