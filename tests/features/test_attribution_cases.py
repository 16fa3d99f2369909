"""The numbered attribution cases A01 to A39, each with its number in its name.

Click window 1800 s, order window 86400 s after a click, skew 5 s, lateness 3600 s, closed edges. An instant
belongs to what follows it: what arrives at ``as_of`` is not known, and a label whose last chance is
``as_of`` itself is still open (A30 is asked one microsecond later). A null of the cases is ``ripe_label``:
neither positive nor final.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from attribution_by_hand import Done, Shown
from attribution_frames import ask, events_frame, impressions_frame

from features.calendar import calendar, day_of, day_start
from features.funnel import Funnel, Objective
from features.labels import attribute, finality, label_state, labelled, revised_at, ripe_label

T0 = datetime(2026, 1, 5)
SKEW, LATENESS = timedelta(seconds=5), timedelta(seconds=3_600)
DAY, MICRO = 86_400, 0.000001
FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(seconds=1_800)),
        Objective(name="order", log="order", given="click", window=timedelta(seconds=DAY)),
    ),
    click="click",
    conversion="order",
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def imp(
    key: str, seconds: float, user: int | None = 1, item: str | None = "a", arrived: float | None = None
) -> Shown:
    return Shown(key, user, item, at(seconds), None if arrived is None else at(arrived))


def ev(
    key: str,
    seconds: float,
    named: str | None = None,
    user: int | None = 1,
    item: str | None = "a",
    arrived: float | None = None,
) -> Done:
    return Done(key, named, user, item, at(seconds), None if arrived is None else at(arrived))


#: Per case: impressions, clicks, orders; (click, order) as numbers of events of each impression; the orphans.
CASES: dict[str, tuple[list[Shown], list[Done], list[Done], list[tuple[int, int]], str]] = {
    "A01 a click": ([imp("1", 100)], [ev("c", 160)], [], [(1, 0)], ""),
    "A02 at the end of the window": ([imp("1", 100)], [ev("c", 1900)], [], [(1, 0)], ""),
    "A03 just after the window": ([imp("1", 100)], [ev("c", 1900 + MICRO)], [], [(0, 0)], "c"),
    "A04 at the impression's instant": ([imp("1", 100)], [ev("c", 100)], [], [(1, 0)], ""),
    "A05 before, within the skew": ([imp("1", 100)], [ev("c", 98)], [], [(1, 0)], ""),
    "A05 at the edge of the skew": ([imp("1", 100)], [ev("c", 95)], [], [(1, 0)], ""),
    "A06 before, beyond the skew": ([imp("1", 100)], [ev("c", 94)], [], [(0, 0)], "c"),
    "A06 just beyond the skew": ([imp("1", 100)], [ev("c", 95 - MICRO)], [], [(0, 0)], "c"),
    "A06 beyond the skew, with the id": ([imp("1", 100)], [ev("c", 94, "1")], [], [(0, 0)], "c"),
    "A07 one click three times": (
        [imp("1", 100)], [ev("c", 160), ev("c", 160), ev("c", 190, arrived=191)], [], [(1, 0)], "",
    ),
    "A08 two clicks": ([imp("1", 100)], [ev("d", 170), ev("c", 160)], [], [(2, 0)], ""),
    "A09 last touch": ([imp("1", 100), imp("2", 200)], [ev("c", 260)], [], [(0, 0), (1, 0)], ""),
    "A10 the id beats the last touch": (
        [imp("1", 100), imp("2", 200)], [ev("c", 260, "1")], [], [(1, 0), (0, 0)], "",
    ),
    "A10 even for another item": ([imp("1", 100)], [ev("c", 260, "1", item="b")], [], [(1, 0)], ""),
    "A11 an unknown id does not fall back": ([imp("1", 100)], [ev("c", 160, "9")], [], [(0, 0)], "c"),
    "A12 an id out of its window neither": (
        [imp("1", 100), imp("2", 3000)], [ev("c", 3060, "1")], [], [(0, 0), (0, 0)], "c",
    ),
    "A13 an order after the click": ([imp("1", 100)], [ev("c", 160)], [ev("o", 500)], [(1, 1)], ""),
    "A14 an order before the click": ([imp("1", 100)], [ev("c", 160)], [ev("o", 120)], [(1, 0)], "o"),
    "A15 an order before, within the skew": (
        [imp("1", 100)], [ev("c", 160)], [ev("o", 157)], [(1, 1)], "",
    ),
    "A16 an order without a click": ([imp("1", 100)], [], [ev("o", 500, "1")], [(0, 0)], "o"),
    "A17 at the end of the order's window": (
        [imp("1", 100)], [ev("c", 160)], [ev("o", 160 + DAY)], [(1, 1)], "",
    ),
    "A18 just after the order's window": (
        [imp("1", 100)], [ev("c", 160)], [ev("o", 160 + DAY + MICRO)], [(1, 0)], "o",
    ),
    "A19 the order's clock starts at the click": (
        [imp("1", 100)], [ev("c", 1800)], [ev("o", 100 + 87_000)], [(1, 1)], "",
    ),
    "A19 and starts anew with each click": (
        [imp("1", 100)], [ev("c", 160), ev("d", 1800)], [ev("o", 1000 + DAY)], [(2, 1)], "",
    ),
    "A20 after two clicks the last owns the order": (
        [imp("1", 100), imp("2", 200)], [ev("c", 150, "1"), ev("d", 250, "2")], [ev("o", 500)],
        [(1, 0), (1, 1)], "",
    ),
    "A20 the last click, not the last impression": (
        [imp("1", 100), imp("2", 200)], [ev("c", 300, "1"), ev("d", 250, "2")], [ev("o", 500)],
        [(1, 1), (1, 0)], "",
    ),
    "A20 the last click of all, not the last first click": (
        [imp("1", 100), imp("2", 200)], [ev("c", 150, "1"), ev("d", 250, "2"), ev("e", 400, "1")],
        [ev("o", 500)], [(2, 1), (1, 0)], "",
    ),
    "A21 between two clicks the first owns it": (
        [imp("1", 100), imp("2", 200)], [ev("c", 150, "1"), ev("d", 250, "2")], [ev("o", 210)],
        [(1, 1), (1, 0)], "",
    ),
    "A22 two orders": ([imp("1", 100)], [ev("c", 160)], [ev("o", 500), ev("p", 600)], [(1, 2)], ""),
    "A23 one order twice": ([imp("1", 100)], [ev("c", 160)], [ev("o", 500), ev("o", 500)], [(1, 1)], ""),
    "A24 an impression logged twice": (
        [imp("1", 100), imp("1", 100), imp("1", 130, arrived=131)], [ev("c", 160)], [], [(1, 0)], "",
    ),
    "A25 two places at one instant": (
        [imp("1", 100), imp("2", 100)], [ev("c", 160)], [], [(0, 0), (1, 0)], "",
    ),
    "A26 another user": ([imp("1", 100)], [ev("c", 160, user=2)], [], [(0, 0)], "c"),
    "A26 another item": ([imp("1", 100)], [ev("c", 160, item="b")], [], [(0, 0)], "c"),
    "A27 no user matches no user": ([imp("1", 100, user=None)], [ev("c", 160, user=None)], [], [(0, 0)], "c"),
    "A27 no item matches no item": ([imp("1", 100, item=None)], [ev("c", 160, item=None)], [], [(0, 0)], "c"),
    "A28 the older is closed, the newer comes later": (
        [imp("1", 100), imp("2", 3000)], [ev("c", 2500)], [], [(0, 0), (0, 0)], "c",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    imps, clicks, orders, expected, orphans = CASES[name]
    told = ask(imps, {"click": clicks, "order": orders}, FUNNEL, SKEW)
    ids = list(dict.fromkeys(i.id for i in imps))
    assert sorted(told.labels) == ids
    assert [(told.labels[i]["n_click"], told.labels[i]["n_order"]) for i in ids] == expected
    for row in told.labels.values():
        assert (row["y_click"], row["y_order"]) == (min(row["n_click"], 1), min(row["n_order"], 1))  # type: ignore[call-overload]
    assert {event for owner in told.owner.values() for event, i in owner.items() if i is None} == set(orphans)


def delays(imps: Sequence[Shown], clicks: Sequence[Done], orders: Sequence[Done]) -> list[float]:
    """Seconds from the exposure to the click, and from the click to the order."""
    row = ask(imps, {"click": clicks, "order": orders}, FUNNEL, SKEW).labels["1"]
    marks = [imps[0].at, row["click_at"], row["order_at"]]
    known = [mark for mark in marks if isinstance(mark, datetime)]
    return [(then - before).total_seconds() for before, then in pairwise(known)]


def test_a05_a15_an_event_before_its_parent_has_no_delay() -> None:
    assert delays([imp("1", 100)], [ev("c", 98)], []) == [0]
    assert delays([imp("1", 100)], [ev("c", 160)], [ev("o", 157)]) == [60, 0]
    # A click that is taken for simultaneous owns an order that seems to come before the exposure, too.
    assert delays([imp("1", 100)], [ev("c", 96)], [ev("o", 92)]) == [0, 0]


def test_a08_a22_the_first_of_several_events_gives_the_delay() -> None:
    assert delays([imp("1", 100)], [ev("d", 170), ev("c", 160)], [ev("p", 600), ev("o", 500)]) == [60, 340]


def table(
    imps: Sequence[Shown], clicks: Sequence[Done], orders: Sequence[Done], as_of: float
) -> pl.DataFrame:
    """Labels as of an instant, with finality, state and revision."""
    watermark = at(as_of)
    told = attribute(
        impressions_frame(imps),
        {"click": events_frame(clicks), "order": events_frame(orders)},
        FUNNEL,
        skew=SKEW,
        as_of=watermark,
    )
    return (
        labelled(impressions_frame(imps), told.labels, FUNNEL)
        .with_columns(*finality(FUNNEL, LATENESS, watermark), revised_at(FUNNEL, LATENESS))
        .with_columns(label_state(FUNNEL))
        .collect()
    )


def ripe(
    imps: Sequence[Shown], clicks: Sequence[Done], orders: Sequence[Done], as_of: float
) -> tuple[int | None, int | None]:
    """The labels of one impression as of an instant, null where they are not ripe."""
    click, order = table(imps, clicks, orders, as_of).select(ripe_label(o) for o in FUNNEL).row(0)
    return click, order


def test_a29_without_a_click_the_label_is_open_until_window_and_lateness_are_over() -> None:
    assert ripe([imp("1", 100)], [], [], 101) == (None, None)
    assert ripe([imp("1", 100)], [], [], 100 + 1_800 + 3_600) == (None, None)


def test_a30_without_a_click_the_label_is_zero_once_they_are_over() -> None:
    assert ripe([imp("1", 100)], [], [], 100 + 1_800 + 3_600 + MICRO) == (0, None)
    assert ripe([imp("1", 100)], [], [], 100 + 1_800 + DAY + 3_600 + MICRO) == (0, 0)


def test_a31_clicked_while_the_orders_window_is_open() -> None:
    for as_of in (200, 100 + 1_800 + 3_600 + 1, 100 + 1_800 + DAY + 3_600):
        assert ripe([imp("1", 100)], [ev("c", 160)], [], as_of) == (1, None)


def test_a32_a_positive_is_ripe_at_once_and_final_by_the_clock_alone() -> None:
    found = table([imp("1", 100)], [ev("c", 160)], [ev("o", 200)], 300)
    assert found.select(ripe_label(o) for o in FUNNEL).row(0) == (1, 1)
    assert found.select("final_click", "final_order", "label_state").row(0) == (False, False, "fresh")


def test_a33_an_order_that_arrives_after_as_of_is_not_known() -> None:
    order = [ev("o", 500, arrived=2_000)]
    for as_of in (1_000, 2_000):
        assert ripe([imp("1", 100)], [ev("c", 160)], order, as_of) == (1, None)


def test_a34_and_is_known_as_of_later() -> None:
    order = [ev("o", 500, arrived=2_000)]
    assert ripe([imp("1", 100)], [ev("c", 160)], order, 2_000 + MICRO) == (1, 1)


LATE_CLICK = [ev("c", 160, arrived=100 + 1_800 + 3_600 + 10)]


def test_a35_what_arrives_after_the_lateness_was_a_zero() -> None:
    found = table([imp("1", 100)], LATE_CLICK, [], 100 + 1_800 + 3_600 + 5)
    assert found.select("y_click", "final_click", "revised_at").row(0) == (0, True, None)


def test_a36_and_is_a_one_in_the_next_version_counted_as_revision() -> None:
    found = table([imp("1", 100), imp("2", 100, user=2)], LATE_CLICK, [], 10_000).sort("impression_id")
    assert found["y_click"].to_list() == [1, 0]
    assert found["revised_at"].to_list() == [at(100 + 1_800 + 3_600 + 10), None]
    # In time by a hair: known before the label was final, so nothing was revised.
    in_time = [ev("c", 160, arrived=100 + 1_800 + 3_600)]
    assert table([imp("1", 100)], in_time, [], 10_000)["revised_at"].to_list() == [None]


BERLIN = "Europe/Berlin"


def days(instants: Sequence[datetime], first: date, last: date) -> list[date]:
    """The logical day of each instant as a log query finds it, and as ``day_of`` does."""
    listed = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    found = (
        pl.DataFrame({"at": instants}, schema={"at": pl.Datetime("us")})
        .join_where(
            calendar(listed, BERLIN), pl.col("at") >= pl.col("starts_at"), pl.col("at") < pl.col("ends_at")
        )
        .sort("at")["day"]
        .to_list()
    )
    assert found == [day_of(instant, BERLIN) for instant in instants]
    return found


def test_a37_a_click_after_midnight_labels_the_impression_on_its_own_day() -> None:
    midnight = day_start(date(2026, 1, 6), BERLIN)
    shown, clicked = midnight - timedelta(seconds=30), midnight + timedelta(seconds=30)
    assert days([shown, clicked], date(2026, 1, 5), date(2026, 1, 6)) == [date(2026, 1, 5), date(2026, 1, 6)]
    told = ask(
        [Shown("1", 1, "a", shown)], {"click": [Done("c", None, 1, "a", clicked)], "order": []}, FUNNEL, SKEW
    )
    assert told.labels["1"]["y_click"] == 1


def test_a38_days_are_cut_by_the_zone_when_one_has_23_hours() -> None:
    begins, ends = datetime(2026, 3, 28, 23), datetime(2026, 3, 29, 22)  # naive UTC, counted by hand
    micro = timedelta(microseconds=1)
    found = days([begins - micro, begins, ends - micro, ends], date(2026, 3, 28), date(2026, 3, 30))
    assert [day.day for day in found] == [28, 29, 29, 30]


def test_a39_a_window_over_the_clock_change_has_86400_seconds() -> None:
    """On the wall in Berlin, 28 March 12:00 to 29 March 13:00 are 24 hours."""
    click = datetime(2026, 3, 28, 11)
    for wait, label in ((timedelta(seconds=DAY), 1), (timedelta(seconds=DAY, microseconds=1), 0)):
        order = Done("o", None, 1, "a", click + wait)
        log = {"click": [Done("c", None, 1, "a", click)], "order": [order]}
        assert ask([Shown("1", 1, "a", click)], log, FUNNEL, SKEW).labels["1"]["y_order"] == label


def test_every_numbered_case_is_here() -> None:
    named = " ".join([*CASES, *(name.upper() for name in globals() if name.startswith("test_a"))])
    assert {int(number) for number in re.findall(r"A(\d\d)", named)} == set(range(1, 40))
