"""Logical days: the only place where a time zone is known. Everywhere else time is naive UTC.

A day is the half-open interval from local midnight to the next; it has 23 or 25 hours when the clock changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl


def day_start(day: date, zone: str) -> datetime:
    """The instant at which ``day`` begins in ``zone``, as naive UTC.

    >>> day_start(date(2022, 4, 25), "Asia/Shanghai")
    datetime.datetime(2022, 4, 24, 16, 0)
    """
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC).replace(tzinfo=None)


def day_end(day: date, zone: str) -> datetime:
    """The instant at which ``day`` is over, which is the watermark of its run."""
    return day_start(day + timedelta(days=1), zone)


def day_of(instant: datetime, zone: str) -> date:
    """The logical day of a naive UTC instant."""
    return instant.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


def days_between(first: date, last: date) -> tuple[date, ...]:
    """All days from ``first`` to ``last``, both included."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def calendar(days: Iterable[date], zone: str) -> pl.DataFrame:
    """One row a day: ``day``, ``starts_at`` and ``ends_at`` (exclusive), for queries that know no zone."""
    listed = list(days)
    return pl.DataFrame(
        {
            "day": listed,
            "starts_at": [day_start(day, zone) for day in listed],
            "ends_at": [day_end(day, zone) for day in listed],
        },
        schema={"day": pl.Date, "starts_at": pl.Datetime("us"), "ends_at": pl.Datetime("us")},
    )
