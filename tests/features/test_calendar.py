"""Logical days as instants, also where the clock changes."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.calendar import calendar, day_end, day_of, day_start, days_between

HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
#: Zones with no change, with one at night, with one at midnight itself, and beyond the date line.
ZONES = [
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
]


@pytest.mark.parametrize(
    ("day", "zone", "starts", "hours"),
    [
        (date(2026, 3, 28), "Europe/Berlin", datetime(2026, 3, 27, 23), 24),
        (date(2026, 3, 29), "Europe/Berlin", datetime(2026, 3, 28, 23), 23),
        (date(2026, 3, 30), "Europe/Berlin", datetime(2026, 3, 29, 22), 24),
        (date(2026, 10, 25), "Europe/Berlin", datetime(2026, 10, 24, 22), 25),
        (date(2026, 11, 1), "America/New_York", datetime(2026, 11, 1, 4), 25),
        # Midnight itself does not exist: the day begins at one o'clock.
        (date(2018, 11, 4), "America/Sao_Paulo", datetime(2018, 11, 4, 3), 23),
        # Midnight happens twice: the day begins at the first.
        (date(2026, 11, 1), "America/Havana", datetime(2026, 11, 1, 4), 25),
    ],
)
def test_F50_a_day_begins_at_local_midnight_and_lasts_as_long_as_the_clock_says(
    day: date, zone: str, starts: datetime, hours: int
) -> None:
    assert day_start(day, zone) == starts
    assert day_end(day, zone) - day_start(day, zone) == hours * HOUR


def test_instants_around_a_short_day_fall_to_their_days() -> None:
    """A38: the last instant of the 28th, both ends of the 29th, and the first of the 30th."""
    begins, ends = datetime(2026, 3, 28, 23), datetime(2026, 3, 29, 22)
    found = [day_of(instant, "Europe/Berlin").day for instant in (begins - TICK, begins, ends - TICK, ends)]
    assert found == [28, 29, 29, 30]


@given(st.dates(date(1975, 1, 1), date(2035, 12, 31)), st.sampled_from(ZONES))
def test_a_day_holds_its_first_and_last_instant_and_no_other_day_does(day: date, zone: str) -> None:
    if (zone, day) == ("Pacific/Kiritimati", date(1994, 12, 31)):
        return  # the islands moved the date line; there was no such day
    starts, ends = day_start(day, zone), day_end(day, zone)
    assert day_of(starts, zone) == day == day_of(ends - TICK, zone)
    assert day_of(starts - TICK, zone) < day < day_of(ends, zone)


@given(st.datetimes(datetime(1975, 1, 1), datetime(2035, 12, 31)), st.sampled_from(ZONES))
def test_every_instant_lies_within_its_day(instant: datetime, zone: str) -> None:
    day = day_of(instant, zone)
    assert day_start(day, zone) <= instant < day_end(day, zone)


def test_the_calendar_covers_its_days_without_gap_or_overlap() -> None:
    days = days_between(date(2026, 3, 27), date(2026, 3, 31))
    frame = calendar(days, "Europe/Berlin")
    assert frame["day"].to_list() == list(days)
    assert frame["starts_at"][1:].to_list() == frame["ends_at"][:-1].to_list()
    assert frame["starts_at"].dtype == pl.Datetime("us")
    assert days_between(date(2026, 1, 2), date(2026, 1, 1)) == ()
