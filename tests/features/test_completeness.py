"""How complete young labels are: against shares counted one by one, and against what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.completeness import STEPS, STRENGTH, estimate, expected, has_curves, needed
from features.funnel import Funnel, Objective
from features.scenarios import kuairand, shop

T0 = datetime(2026, 1, 5)
HOUR, MICRO = timedelta(hours=1), timedelta(microseconds=1)
FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(0)),
        Objective(name="order", log="conversion", given="click", window=4 * HOUR, segment="category"),
    ),
    click="click",
    conversion="order",
)
#: Orders are open for four hours; clicks are complete at once.
SCENARIO = replace(shop.SCENARIO, funnel=FUNNEL, lateness=timedelta(0))
CLICK, ORDER = FUNNEL["click"], FUNNEL["order"]
Past = Sequence[tuple[int, str | None]]


def past(positives: Past) -> pl.LazyFrame:
    """Final positives of the order: microseconds until they were known, and their segment."""
    rows = [(T0, 1, True, T0 + micros * MICRO, category) for micros, category in positives]
    columns = {"exposed_at": pl.Datetime("us"), "y_order": pl.Int8, "final_order": pl.Boolean}
    schema = {**columns, "order_known_at": pl.Datetime("us"), "category": pl.String}
    return pl.LazyFrame(rows, schema=schema, orient="row")


def edge(step: int) -> Fraction:
    """Microseconds after the exposure at which a step begins."""
    return Fraction(step * step, STEPS * STEPS) * (4 * HOUR // MICRO)


def share(delays: Sequence[int], age: Fraction) -> Fraction:
    """Share of positives known before an age; all are by the end of the window."""
    known = sum(delay < age or age >= edge(STEPS) for delay in delays)
    return Fraction(known, len(delays))


def by_hand(positives: Past, segment: str | None, step: int) -> Fraction:
    all_of_them = share([delay for delay, _ in positives], edge(step))
    own = [delay for delay, category in positives if category == segment]
    if segment is None or not own:
        return all_of_them
    return (len(own) * share(own, edge(step)) + STRENGTH * all_of_them) / (len(own) + STRENGTH)


POSITIVES = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 5 * HOUR // MICRO),
            st.integers(0, STEPS).map(lambda step: -(-edge(step).numerator // edge(step).denominator)),
        ),
        st.sampled_from(["tea", "cups", None]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(POSITIVES)
def test_the_curves_are_the_shares_counted_one_by_one_shrunk_to_those_of_all(positives: Past) -> None:
    found = estimate(past(positives), SCENARIO)
    segments = {None, *(category for _, category in positives)}
    assert found.height == STEPS * len(segments)
    assert set(found["objective"]) == {"order"}
    for row in found.rows(named=True):
        ends = [by_hand(positives, row["segment"], row["step"] + more) for more in (0, 1)]
        assert [row["completeness_from"], row["completeness_to"]] == pytest.approx([float(e) for e in ends])
        ages = [float(edge(row["step"] + more)) / 3.6e9 for more in (0, 1)]
        assert [row["age_from_hours"], row["age_to_hours"]] == pytest.approx(ages)
        assert row["positives"] == sum(row["segment"] in (None, category) for _, category in positives)
    for segment in segments:
        curve = found.filter(pl.col("segment").eq_missing(segment))
        assert curve["step"].to_list() == list(range(STEPS))
        assert curve["completeness_from"][0] == 0
        assert curve["completeness_to"][-1] == 1
        assert curve["completeness_to"].is_sorted()
        assert curve["completeness_from"][1:].to_list() == curve["completeness_to"][:-1].to_list()


def test_open_labels_and_negatives_say_nothing_of_delays() -> None:
    told = past([(HOUR // MICRO, "tea")] * 3).with_columns(
        y_order=pl.Series([1, 1, 0], dtype=pl.Int8), final_order=pl.Series([True, False, True])
    )
    assert set(estimate(told, SCENARIO)["positives"]) == {1}


def test_without_a_final_positive_there_is_no_curve() -> None:
    assert estimate(past([]), SCENARIO).is_empty()


def young(
    ages: Sequence[timedelta], categories: Sequence[str | None], final: Sequence[bool] | None = None
) -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "exposed_at": [T0 - age for age in ages],
            "category": categories,
            "final_order": final or [False] * len(ages),
            "final_click": [True] * len(ages),
        },
        schema_overrides={"category": pl.String, "exposed_at": pl.Datetime("us")},
    )


def completeness(rows: pl.LazyFrame, curves: pl.DataFrame | None) -> list[float | None]:
    placed = rows.with_row_index("place")
    found = expected(placed, None if curves is None else curves.lazy(), SCENARIO, ORDER, T0).collect()
    assert found.columns == ["place", *rows.collect_schema().names(), "completeness_order"]
    return found.sort("place")["completeness_order"].to_list()


@settings(max_examples=60, deadline=None)
@given(POSITIVES, st.lists(st.integers(0, 4 * HOUR // MICRO), min_size=1, max_size=8))
def test_a_row_takes_the_share_at_its_age_on_the_line_between_two_steps(
    positives: Past, ages: Sequence[int]
) -> None:
    curves = estimate(past(positives), SCENARIO)
    for segment in ("tea", "cups", None, "never seen"):
        rows = young([age * MICRO for age in ages], [segment] * len(ages))
        for age, value in zip(ages, completeness(rows, curves), strict=True):
            step = max(n for n in range(STEPS) if edge(n) <= age)
            low, high = by_hand(positives, segment, step), by_hand(positives, segment, step + 1)
            line = low + (high - low) * (age - edge(step)) / (edge(step + 1) - edge(step))
            assert value == pytest.approx(float(line), abs=1e-6)


def test_a_final_label_is_complete_and_an_open_one_without_history_unknown() -> None:
    rows = young([HOUR, HOUR], ["tea", None], [True, False])
    assert completeness(rows, None) == [1.0, None]
    assert completeness(rows, estimate(past([(3 * HOUR // MICRO, "tea")]), SCENARIO)) == [1.0, 0.0]
    assert completeness(rows, estimate(past([]), SCENARIO)) == [1.0, None]


def test_what_arrives_with_its_row_is_complete_at_once() -> None:
    rows = expected(young([HOUR], ["tea"]), None, SCENARIO, CLICK, T0).collect()
    assert rows["completeness_click"].to_list() == [1.0]
    assert not has_curves(kuairand.SCENARIO)
    assert has_curves(SCENARIO)


def test_only_a_few_columns_of_the_samples_are_read() -> None:
    orders = ["y_order", "final_order", "order_known_at", "category"]
    assert needed(FUNNEL) == ["exposed_at", "y_click", "final_click", "click_known_at", *orders]


def test_divided_by_its_completeness_a_young_label_has_the_rate_of_a_final_one() -> None:
    """Tea is bought slowly, cups at once; one in ten buys. Half an hour later most tea is still to come."""
    chance = Random(0)

    def delay(category: str) -> float:
        return min(chance.expovariate(1 / (2.0 if category == "tea" else 0.2)), 3.9)

    history = [(int(delay(c) * 3.6e9), c) for c in ("tea", "cups") for _ in range(4_000)]
    curves = estimate(past(history), SCENARIO)
    for category in ("tea", "cups"):
        ages = [timedelta(hours=chance.uniform(0.4, 0.6)) for _ in range(40_000)]
        seen = [chance.random() < 0.1 and delay(category) * HOUR < age for age in ages]
        shares = completeness(young(ages, [category] * len(ages)), curves)
        naive = sum(seen) / len(seen)
        corrected = sum(y / s for y, s in zip(seen, shares, strict=True) if s) / len(seen)
        assert corrected == pytest.approx(0.1, rel=0.06)
        assert naive < (0.03 if category == "tea" else 0.095)
