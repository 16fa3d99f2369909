"""Attributes with a history, as they were known at an instant: a day's start, or each impression.

Both ways are one: the log becomes versions that one inequality can be asked of, the features are computed
from each version, and the join of ``features.point_in_time`` finds the version that counts.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from features.as_of_ready import as_of_ready
from features.calendar import days_between
from features.point_in_time import pit_join
from features.scenario import Source
from features.view import History, View

_DAY = timedelta(days=1)
#: Marks what a version was found for; one without a value is found all the same.
_KNOWN = "__known"


def days_of_changes(view: View, before: date) -> tuple[date, ...]:
    """The days of arrival before the day ``before`` whose changes may still count at its start or later.

    A change happened no later than it arrived (with a publish delay: it is delivered with its own day), so
    one that is young enough arrived on these days. One day
    more than the max age, since the max age is a length of time: it reaches an hour beyond the days where
    one of them has 23.
    """
    return days_between(before - (view.max_age_days + 1) * _DAY, before - _DAY)


def as_of_start(view: View, log: Source, rows: pl.LazyFrame, starts_at: datetime) -> pl.LazyFrame:
    """The snapshot of a view that is valid from a day's start.

    Args:
        view: of a history.
        log: the source of that name.
        rows: its rows that arrived on ``days_of_changes`` before the day.
        starts_at: the day's first instant, naive UTC; what counts from then on is known.

    Returns:
        The keys and the features, a row for each key with a change known by then and within the max age,
        in the order of the keys.

    Raises:
        ValueError: the source does not tell a key or a clock.
        AmbiguousHistory: two changes with one key, event and arrival but different values.
    """
    ready = versions(view, log, rows)
    keys = rows.select(view.keys).drop_nulls().unique().sort(view.keys)
    asked = keys.with_columns(starts_at=pl.lit(starts_at, dtype=pl.Datetime("us")))
    found = _known(view, asked, ready, "starts_at")
    return found.filter(pl.col(_KNOWN)).select(*view.keys, *_names(view))


def as_of_impressions(view: View, log: Source, rows: pl.LazyFrame, impressions: pl.LazyFrame) -> pl.DataFrame:
    """The view's features at each impression of a day.

    Args:
        view: of a history.
        log: the source of that name.
        rows: its rows that arrived on ``days_of_changes`` before the day, and on the day.
        impressions: ``impression_id``, ``exposed_at`` (naive UTC) and the view's keys, exposed on the day.

    Returns:
        ``impression_id`` and the features, null where nothing is known, in the order of the impressions.

    Raises:
        ValueError: the source does not tell a key or a clock.
        AmbiguousHistory: two changes with one key, event and arrival but different values.
    """
    return at_impressions(view, versions(view, log, rows), impressions)


def at_impressions(view: View, ready: pl.LazyFrame, impressions: pl.LazyFrame) -> pl.DataFrame:
    """The same from ``versions``, which may be made once for many blocks of impressions."""
    asked = impressions.select("impression_id", "exposed_at", *view.keys)
    return _known(view, asked, ready, "exposed_at").select("impression_id", *_names(view)).collect()


def versions(view: View, log: Source, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The features of each version, ready to be asked as of an instant.

    Raises:
        ValueError: the view has no history, or the source does not tell a key or a clock.
        AmbiguousHistory: on collecting.
    """
    if not isinstance(view.source, History):
        raise ValueError(f"View {view.name!r} has no history to ask at an instant.")
    delay = view.source.publish_delay
    needed = (*view.keys, "occurred_at", *(("arrived_at",) if delay is None else ()))
    if missing := [name for name in needed if name not in log.schema.names]:
        raise ValueError(
            f"View {view.name!r} tells a history: its source {log.name!r} must have {missing}; "
            f"it has {log.schema.names}."
        )
    features = [feature.expr.cast(feature.dtype).alias(feature.name) for feature in view.features]
    return as_of_ready(
        rows.select(*needed, *features, pl.lit(True).alias(_KNOWN)),
        keys=view.keys,
        event_time="occurred_at",
        arrived_at="arrived_at" if delay is None else None,
        publish_delay=delay,
        fields=[*_names(view), _KNOWN],
        # A change that is announced would lie outside of the days that are read once it happens.
        max_skew=timedelta(0),
    )


def _known(view: View, asked: pl.LazyFrame, ready: pl.LazyFrame, at: str) -> pl.LazyFrame:
    max_age = view.max_age_days * _DAY
    return pit_join(asked, ready, keys=view.keys, at=at, fields=[*_names(view), _KNOWN], max_age=max_age)


def _names(view: View) -> list[str]:
    return [feature.name for feature in view.features]
