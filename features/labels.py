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
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.funnel import Funnel, Objective
from features.reversals import LEFT, REVERSED, UNDONE, matched, net

_KEYS = ("impression_id", "user_id", "item_id")
#: What is known of an impression, carried along with the events that it owns.
_SHOWN = (*_KEYS, "exposed_at", "shown_known_at")


@dataclass(frozen=True)
class Attribution:
    """Labels of impressions, the owners of events, and the events that found none.

    Attributes:
        labels: one row per impression that owns an event, for ``labelled``: ``impression_id`` and per
            objective ``n_*`` (Int32), ``v_*`` (Int64, if it has a value), ``*_at``, ``*_known_at``, and
            ``*_changed_at`` (when the last event or reversal that it owns became known).
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

    def known(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows if as_of is None else rows.filter(pl.col("arrived_at") < as_of)

    shown = known(impressions).select(*_KEYS, "exposed_at", shown_known_at="arrived_at")
    touches: dict[str | None, pl.LazyFrame] = {None: shown.with_columns(touched_at="exposed_at")}
    told: dict[str, pl.LazyFrame] = {}
    owners: dict[str, pl.LazyFrame] = {}
    orphans: dict[str, pl.LazyFrame] = {}
    idle: dict[str, pl.LazyFrame] = {}
    for objective in funnel:
        # Cached where a part of the plan is used twice: Polars would else plan (and run) a tree's copies.
        log = _held(once(known(events[objective.name]), "event_id", "arrived_at", "occurred_at"))
        back = None
        if objective.reversals is not None and reversals is not None:
            back = _held(once(known(reversals[objective.name]), "event_id", "arrived_at", "occurred_at"))
            effective = matched(log, back, objective).select("reversal_id")
            idle[objective.name] = back.join(
                effective, left_on="event_id", right_on="reversal_id", how="anti"
            )
        owned = _held(_owned(log, touches[objective.given], objective, skew))
        touches[objective.name] = owned.select(*_SHOWN, touched_at="occurred_at")
        owners[objective.name] = owned.select("event_id", "impression_id", "exposed_at")
        orphans[objective.name] = log.join(owned, on="event_id", how="anti")
        told[objective.name] = _held(_per_impression(net(owned, back, objective), objective))
    return Attribution(_labels(told, funnel), owners, orphans, idle)


def labelled(impressions: pl.LazyFrame, labels: pl.LazyFrame, funnel: Funnel) -> pl.LazyFrame:
    """Add the columns of every objective to impressions: ``y_*`` (Int8), and zeros where nothing is known.

    Args:
        impressions: distinct rows with ``impression_id``; every row comes back once.
        labels: as ``attribute`` gives them.
        funnel: the objectives.
    """
    numbers = [pl.col(name).fill_null(0) for o in funnel for name in _numbers(o)]
    happened = [(pl.col(o.count) > 0).cast(pl.Int8).alias(o.label) for o in funnel]
    joined = impressions.join(labels, on="impression_id", how="left", validate="m:1")
    return joined.with_columns(numbers).with_columns(happened)


def once(rows: pl.LazyFrame, key: str, known_at: str, happened_at: str) -> pl.LazyFrame:
    """The rows without copies of one key: the one known first stays, then the earliest, then by content."""
    twice = rows.group_by(key).len().filter(pl.col("len") > 1).select(key)
    rest = sorted(set(rows.collect_schema().names()) - {key, known_at, happened_at})
    copies = rows.join(twice, on=key, how="semi", nulls_equal=True)
    kept = copies.sort(known_at, happened_at, *rest, nulls_last=True).unique(key, keep="first")
    return pl.concat([rows.join(twice, on=key, how="anti", nulls_equal=True), kept])


def _held(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same rows, computed once and kept in memory.

    Only for what is of the size of the events. Left lazy, all steps would be one plan: its branches run side
    by side and need the memory of all of them together.
    """
    return rows.collect(engine="streaming").lazy()


def _owned(log: pl.LazyFrame, touches: pl.LazyFrame, objective: Objective, skew: timedelta) -> pl.LazyFrame:
    """The events that belong to an impression, with its keys in place of their own.

    Args:
        log: distinct events.
        touches: what may own them: the impression's columns and ``touched_at``.
        objective: gives the window.
        skew: how long before its touch an event may lie.
    """
    near = (pl.col("occurred_at") >= pl.col("touched_at") - skew) & (
        pl.col("occurred_at") <= pl.col("touched_at") + objective.window
    )
    own = ["event_id", "occurred_at", "arrived_at", *([objective.value] if objective.value else [])]
    columns = [*own, *_SHOWN]

    def candidates(asked: pl.LazyFrame, *keys: str) -> pl.LazyFrame:
        # Few touches are asked for, and only among these are copies of an impression looked for.
        found = _held(touches.join(asked.select(keys), on=keys, how="semi"))
        return found if objective.given else once(found, "impression_id", "shown_known_at", "exposed_at")

    # Several touches of its impression may be near: which one does not matter, the owner is the same.
    named = log.select(*own, "impression_id").drop_nulls("impression_id")
    by_id = (
        named.join(candidates(named, "impression_id"), on="impression_id")
        .filter(near)
        .select(columns)
        .unique("event_id")
    )
    nameless = log.filter(pl.col("impression_id").is_null()).select(*own, "user_id", "item_id")
    nameless = nameless.drop_nulls(["user_id", "item_id"]).with_columns(
        latest_touch=pl.col("occurred_at") + skew
    )
    # Both sides are sorted here: with `by`, Polars does not check the order and would answer wrongly.
    by_touch = (
        nameless.sort("latest_touch", "event_id")
        .join_asof(
            candidates(nameless, "user_id", "item_id").sort("touched_at", "impression_id"),
            left_on="latest_touch",
            right_on="touched_at",
            by=["user_id", "item_id"],
            strategy="backward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("impression_id").is_not_null() & near)
    )
    return pl.concat([by_id, by_touch.select(columns)])


def _per_impression(owned: pl.LazyFrame, objective: Objective) -> pl.LazyFrame:
    """What an impression's own events say of one objective, its parent aside."""
    counts = ~pl.col(UNDONE)
    columns = [
        counts.sum().cast(pl.Int32).alias(objective.count),
        pl.col("occurred_at").filter(counts).min().alias(objective.occurred),
        pl.col("arrived_at").filter(counts).min().alias(objective.known),
        pl.max_horizontal(pl.col("arrived_at").max(), pl.col(REVERSED).max()).alias(objective.changed),
    ]
    if objective.value is not None:
        columns.append(pl.col(LEFT).filter(counts).sum().cast(pl.Int64).alias(objective.total))
    shown = pl.col("exposed_at", "shown_known_at").min()
    return owned.group_by("impression_id").agg(shown, *columns)


def _labels(told: Mapping[str, pl.LazyFrame], funnel: Funnel) -> pl.LazyFrame:
    """One row per impression that owns an event: the few of which there is something to say."""
    shown = ("impression_id", "exposed_at", "shown_known_at")
    every = pl.concat([rows.select(shown) for rows in told.values()])
    labels = every.group_by("impression_id").agg(pl.all().min())
    for objective in funnel:
        own = told[objective.name].drop("exposed_at", "shown_known_at")
        labels = _label(labels.join(own, on="impression_id", how="left"), funnel, objective)
    return labels.drop("exposed_at", "shown_known_at")


def _label(labels: pl.LazyFrame, funnel: Funnel, objective: Objective) -> pl.LazyFrame:
    """Complete the columns of an objective: nothing without its parent, no instant before its parent's."""
    happened = pl.col(objective.count) > 0
    before, heard = pl.col("exposed_at"), pl.col("shown_known_at")
    if objective.given is not None:
        parent = funnel[objective.given]
        happened &= pl.col(parent.count) > 0
        before, heard = pl.col(parent.occurred), pl.col(parent.known)
    instants = ((objective.occurred, before), (objective.known, heard))
    return labels.with_columns(
        *(pl.when(happened).then(name).otherwise(0).alias(name) for name in _numbers(objective)),
        *(pl.when(happened).then(pl.max_horizontal(name, least)).alias(name) for name, least in instants),
    )


def _numbers(objective: Objective) -> list[str]:
    return [objective.count, *([objective.total] if objective.value is not None else [])]


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
