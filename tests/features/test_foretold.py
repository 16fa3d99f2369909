"""What F promised against what was seen: counted by hand, on curves that are straight lines."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest

from features.completeness import STEPS
from features.funnel import Funnel, Objective
from features.scenarios import shop
from features.validation.foretold import broken, held

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
T0 = datetime(2026, 1, 5)
ORDER = Objective(name="order", log="conversion", given="click", window=10 * DAY, segment="category")
SCENARIO = replace(
    shop.SCENARIO,
    funnel=Funnel(
        (Objective(name="click", log="click", window=timedelta(0)), ORDER), click="click", conversion="order"
    ),
    lateness=timedelta(0),
)


def straight(segment: str | None, share: float = 1.0) -> pl.DataFrame:
    """F rises by ``share`` tenths a day, and jumps to 1 at the end of the ten days."""
    edges = [(step / STEPS) ** 2 for step in range(STEPS + 1)]
    return pl.DataFrame(
        {
            "objective": "order",
            "segment": pl.Series([segment] * STEPS, dtype=pl.String),
            "step": pl.Series(range(STEPS), dtype=pl.Int32),
            "completeness_from": [share * edge for edge in edges[:-1]],
            "completeness_to": [share * edge for edge in edges[1:]],
        }
    )


def positives(*rows: tuple[float, float, str | None]) -> pl.LazyFrame:
    """Hour of the exposure on the first day, days until the order was known, and the category."""
    told = [(T0 + h * HOUR, T0 + h * HOUR + d * DAY, category) for h, d, category in rows]
    schema = {"exposed_at": pl.Datetime("us"), "order_known_at": pl.Datetime("us"), "category": pl.String}
    return pl.LazyFrame(told, schema=schema, orient="row")


def test_seen_and_foretold_are_those_counted_by_hand() -> None:
    """Ages at the end of the first day: 1, 0.5 and 0.75 days; two days later two more."""
    rows = positives((0, 0.2, "a"), (12, 1.0, "a"), (6, 5.0, None))
    young = pl.concat([straight(None), straight("a", 0.5)]).lazy()
    old = straight(None).lazy()
    found = held(rows, SCENARIO, ORDER, {1: (T0 + DAY, young), 3: (T0 + 3 * DAY, old)})
    told = {(segment, age): rest for segment, age, *rest in found.rows()}
    assert set(told) == {(None, 1), (None, 3), ("a", 1), ("a", 3)}
    for key, count, seen, promise in (
        ((None, 1), 3, 1, 0.05 + 0.025 + 0.075),  # the third has no segment and takes the curve of all
        (("a", 1), 2, 1, 0.05 + 0.025),
        ((None, 3), 3, 2, 0.3 + 0.25 + 0.275),
        (("a", 3), 2, 2, 0.3 + 0.25),
    ):
        assert told[key][:2] == [count, seen]
        assert told[key][2] == pytest.approx(promise)
        assert told[key][4] == pytest.approx(seen / promise)
    assert told["a", 3][3] == pytest.approx((0.3 * 0.7 + 0.25 * 0.75) ** 0.5)


def test_an_event_at_the_instant_itself_was_not_known_before_it() -> None:
    found = held(positives((0, 1.0, "a")), SCENARIO, ORDER, {1: (T0 + DAY, straight(None).lazy())})
    assert found["seen"].to_list() == [0, 0]


def test_where_there_is_no_curve_nothing_is_told() -> None:
    other = straight(None).with_columns(objective=pl.lit("click")).lazy()
    assert held(positives((0, 1.0, "a")), SCENARIO, ORDER, {1: (T0 + DAY, other)}).is_empty()


def table(*rows: tuple[str | None, int, int, float, float]) -> pl.DataFrame:
    schema = ["segment", "age_days", "seen", "foretold", "deviation"]
    frame = pl.DataFrame(rows, schema=schema, orient="row", schema_overrides={"segment": pl.String})
    return frame.with_columns(objective=pl.lit("order"), ratio=pl.col("seen") / pl.col("foretold"))


def test_what_is_off_by_more_than_fifteen_percent_and_luck_is_named_the_farthest_first() -> None:
    rows = table(
        (None, 1, 1_140, 1_000.0, 10.0),  # far beyond luck, and within 15 %
        (None, 3, 1_160, 1_000.0, 10.0),
        ("a", 1, 30, 20.0, 4.0),  # half as many again, and within luck
        ("b", 1, 50, 100.0, 7.0),
    )
    assert broken(rows).select("segment", "age_days").rows() == [("b", 1), (None, 3)]
