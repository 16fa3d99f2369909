"""Refunds and cancellations: what is taken back counts no more, from the instant that we know of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from attribution_by_hand import Back, Done, Shown
from attribution_frames import Row, ask

from features.funnel import Funnel, Objective

T0 = datetime(2026, 1, 5)
SKEW = timedelta(seconds=5)
DAY, MICRO = 86_400, 0.000001


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def imp(key: str, seconds: float) -> Shown:
    return Shown(key, 1, "a", at(seconds))


def ev(key: str, seconds: float) -> Done:
    return Done(key, None, 1, "a", at(seconds))


REFUNDS = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(seconds=1_800)),
        Objective(
            name="order", log="order", given="click", window=timedelta(seconds=DAY), value="amount",
            reversals="refund", reversible=timedelta(seconds=DAY),
        ),
        Objective(name="review", log="review", given="order", window=timedelta(seconds=DAY)),
    ),
    click="click",
    conversion="order",
)  # fmt: skip


def sold(key: str, seconds: float, amount: int | None) -> Done:
    return Done(key, None, 1, "a", at(seconds), value=amount)


def back(key: str, reverses: str | None, seconds: float, amount: int | None = None) -> Back:
    return Back(key, reverses, at(seconds), value=amount)


def net(
    orders: Sequence[Done], refunds: Sequence[Back], as_of: float = 10**7, reviews: Sequence[Done] = ()
) -> Row:
    logs = {"click": [ev("c", 160)], "order": orders, "review": reviews}
    return ask([imp("1", 100)], logs, REFUNDS, SKEW, {"order": refunds}, at(as_of)).labels["1"]


def label(row: Row) -> tuple[object, ...]:
    return row["y_order"], row["n_order"], row["v_order"], row["order_at"]


def test_an_order_counts_until_its_refund_is_known_and_not_from_then_on() -> None:
    order, refund = [sold("o", 500, 999)], [back("r", "o", 800)]
    assert label(net(order, refund, 800)) == (1, 1, 999, at(500))
    assert label(net(order, refund, 801)) == (0, 0, 0, None)


def test_one_of_two_orders_is_refunded() -> None:
    orders = [sold("o", 500, 999), sold("p", 600, 1)]
    assert label(net(orders, [back("r", "o", 800)])) == (1, 1, 1, at(600))


def test_a_part_of_an_order_is_refunded_then_the_rest() -> None:
    first, second = back("r", "o", 800, 400), back("s", "o", 900, 599)
    assert label(net([sold("o", 500, 999)], [first])) == (1, 1, 599, at(500))
    assert label(net([sold("o", 500, 999)], [first, first])) == (1, 1, 599, at(500))
    assert label(net([sold("o", 500, 999)], [first, second])) == (0, 0, 0, None)


def test_a_refund_that_is_known_before_its_order_takes_it_back_all_the_same() -> None:
    order = Done("o", None, 1, "a", at(500), arrived=at(900))
    assert label(net([order], [back("r", "o", 600)], 700)) == (0, 0, 0, None)
    assert label(net([order], [back("r", "o", 600)], 1_000)) == (0, 0, 0, None)


def test_with_the_order_what_followed_from_it_is_taken_back() -> None:
    reviews = [ev("w", 1_000)]
    kept, refunded = (
        net([sold("o", 500, 9)], [], reviews=reviews),
        net([sold("o", 500, 9)], [back("r", "o", 800)], reviews=reviews),
    )
    assert (kept["y_review"], refunded["y_review"], refunded["y_click"]) == (1, 0, 1)


def test_refunds_of_nothing_and_refunds_that_come_too_late_change_nothing_and_are_told() -> None:
    logs = {"click": [ev("c", 160)], "order": [sold("o", 500, 9)], "review": []}
    refunds = [
        back("unknown", "x", 800),
        back("nameless", None, 800),
        back("late", "o", 500 + DAY + MICRO),
        back("at the edge", "p", 500 + DAY),
    ]
    logs["order"].append(sold("p", 500, 7))
    told = ask([imp("1", 100)], logs, REFUNDS, SKEW, {"order": refunds})
    assert told.idle == {"order": {"unknown", "nameless", "late"}}
    assert label(told.labels["1"]) == (1, 1, 9, at(500))


def test_an_order_without_a_value_counts_and_adds_nothing() -> None:
    assert label(net([sold("o", 500, None), sold("p", 600, 5)], [])) == (1, 2, 5, at(500))


def test_a_label_that_can_be_taken_back_is_open_until_then() -> None:
    """Clicked within 1800 s of the exposure, ordered within a day, then refunded or reviewed within one."""
    closes = [REFUNDS.closes_after(name).total_seconds() for name in REFUNDS.names]
    assert closes == [1_800, 1_800 + 2 * DAY, 1_800 + 2 * DAY]


@pytest.mark.parametrize(
    "fields", [{"reversals": "refund"}, {"reversible": timedelta(days=1)}], ids=["no time", "no source"]
)
def test_a_source_of_reversals_and_their_time_go_together(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="reversals and how long they count"):
        Objective(name="order", log="order", window=timedelta(0), **fields)  # type: ignore[arg-type]
