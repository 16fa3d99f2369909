"""Contracts against rows whose faults are counted by hand, and against plain Python row by row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, datetime
from math import inf, isfinite, nan

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import scenarios
from features.bookkeeping import METRICS, MODELS
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.schemas import events, rollup, samples, scores, view
from features.tables import Table
from features.validation.contract import Contract, accepted, breaches, reason, refused
from features.validation.tables import contract
from features.view import Category, Dense, Feature

DAY = date(2026, 1, 6)


def tables(scenario: Scenario) -> list[Table]:
    return [
        *(events(source) for source in scenario.sources),
        *(rollup(declared, scenario) for declared in scenario.rollups),
        *(view(declared, scenario) for declared in scenario.views),
        samples(scenario),
        scores(scenario),
        MODELS,
        METRICS,
    ]


def with_limits(**limits: object) -> Scenario:
    """The shop, whose products have prices within limits."""
    (profile,) = (one for one in SCENARIO.views if one.name == "item_profile")
    features = tuple(replace(f, **limits) if f.name == "price" else f for f in profile.features)  # type: ignore[arg-type]
    views = tuple(replace(profile, features=features) if v is profile else v for v in SCENARIO.views)
    return replace(SCENARIO, views=views)


def profiles(scenario: Scenario) -> tuple[Contract, pl.Schema]:
    (profile,) = (one for one in scenario.views if one.name == "item_profile")
    table = view(profile, scenario)
    return contract(table, scenario), pl.DataFrame(table.all_columns.empty_table()).schema


def products(
    schema: pl.Schema, prices: list[float | None], ids: list[str | None] | None = None
) -> pl.DataFrame:
    ids = [f"sku-{n}" for n in range(len(prices))] if ids is None else ids
    values = {"item_id": ids, "price": prices, "dt": [DAY] * len(prices)}
    rows = {name: values.get(name, [None] * len(prices)) for name in schema}
    return pl.DataFrame(rows, schema=schema)


@pytest.mark.parametrize("name", scenarios.names())
def test_a_contract_has_every_column_of_its_table_in_its_type(name: str) -> None:
    scenario = scenarios.get(name)
    for table in tables(scenario):
        told = contract(table, scenario)
        declared = {column: kind.dtype for column, kind in told.schema.columns().items()}
        assert declared == dict(pl.DataFrame(table.all_columns.empty_table()).schema)
        assert set(told.grain) <= set(table.all_columns.names)


@pytest.mark.parametrize("name", scenarios.names())
def test_the_names_of_the_rules_are_those_that_the_library_gives_them(name: str) -> None:
    """A rule under another name than the library's would have no level."""
    scenario = scenarios.get(name)
    for table in tables(scenario):
        told = contract(table, scenario)
        empty = pl.DataFrame(table.all_columns.empty_table())
        _, failure = told.schema.filter(empty)
        assert set(failure.details().columns) - set(empty.columns) == set(told.rules)
        assert set(told.levels) - set(told.rules) <= {
            f"{column}|{kind}" for column in table.schema.names for kind in ("nan", "inf")
        }


def test_what_the_encoding_reads_is_a_range_without_being_declared_twice() -> None:
    told = contract(samples(SCENARIO), SCENARIO)
    for feature in SCENARIO.features:
        if not isinstance(feature.encoding, Dense):
            continue
        kinds = {rule.split("|")[1] for rule in told.rules if rule.startswith(f"{feature.name}|")}
        limits = {"log1p": {"min"}, "logit": {"min_exclusive", "max_exclusive"}, "identity": set()}
        assert limits[feature.encoding.scale] <= kinds
        assert told.level(f"{feature.name}|check__usual") == "warn"


def test_rows_out_of_a_declared_range_are_counted_by_rule_and_the_first_is_shown() -> None:
    told, schema = profiles(with_limits(range=(0.5, 100.0), nullable=False))
    rows = products(
        schema, [0.5, 100.0, 0.49, 101.0, None, nan, inf, 3.0], ["a", "b", "c", "d", "e", "f", "g", None]
    )
    found = breaches(told, [rows], ("quarantine", "fail"))
    assert {(b.rule, b.level): b.rows for b in found} == {
        ("price|min", "quarantine"): 1,
        ("price|max", "quarantine"): 3,  # infinity is too much as well, and NaN sorts above it
        ("price|nan", "quarantine"): 1,
        ("price|inf", "quarantine"): 1,
        ("price|nullability", "quarantine"): 1,
        ("item_id|nullability", "fail"): 1,
    }
    (low,) = (b for b in found if b.rule == "price|min")
    assert low.example == f"dt={DAY}, item_id=c, price=0.49"
    assert low.says == "price is not below its least value"


def test_a_row_that_leaves_is_not_held_to_the_rules_that_fail() -> None:
    told, schema = profiles(with_limits(range=(0.0, 9.0)))
    bad = products(schema, [10.0, 1.0], [None, "b"])
    assert [(b.rule, b.rows) for b in breaches(told, [bad], ("quarantine", "fail"))] == [("price|max", 1)]
    assert breaches(told, [bad], ("fail",)) == ()
    assert accepted(told, bad)["item_id"].to_list() == ["b"]


@settings(max_examples=60, deadline=None)
@given(
    prices=st.lists(
        st.one_of(
            st.none(), st.just(nan), st.just(inf), st.just(-inf), st.floats(-2, 12, allow_nan=False, width=32)
        ),
        max_size=40,
    ),
    nullable=st.booleans(),
)
def test_refused_and_accepted_rows_are_those_of_a_loop_over_the_rows(
    prices: list[float | None], nullable: bool
) -> None:
    told, schema = profiles(with_limits(range=(0.0, 9.0), nullable=nullable))
    rows = products(schema, prices)
    good = [(nullable if p is None else isfinite(p) and 0 <= p <= 9) for p in prices]
    kept, left = accepted(told, rows), refused(told, rows)
    assert kept["item_id"].to_list() == [f"sku-{n}" for n, fine in enumerate(good) if fine]
    assert left["item_id"].to_list() == [f"sku-{n}" for n, fine in enumerate(good) if not fine]
    assert kept.height + left.height == rows.height
    for price, code in zip(left["price"], left["reason"], strict=True):
        if price is None:
            assert code == "PRICE_NULLABILITY"
        elif isfinite(price):
            assert code == ("PRICE_MIN" if price < 0 else "PRICE_MAX")
        else:
            assert code.startswith("PRICE_")


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(0, 9), max_size=30), cut=st.integers(1, 7))
def test_rows_with_the_grain_of_the_one_before_are_found_across_blocks(ids: list[int], cut: int) -> None:
    told, schema = profiles(SCENARIO)
    rows = products(schema, [1.0] * len(ids), [f"sku-{n}" for n in sorted(ids)])
    copies = sum(count - 1 for count in Counter(ids).values())
    found = breaches(told, rows.iter_slices(cut), ("fail",))
    assert {b.rule: b.rows for b in found} == ({"grain": copies} if copies else {})


def test_a_delivery_that_holds_another_day_or_an_unborn_event_breaks_its_contract() -> None:
    source = SCENARIO.source("click")
    assert source.late_days == 1
    told = contract(events(source), SCENARIO)
    schema = pl.DataFrame(events(source).all_columns.empty_table()).schema
    noon = datetime(2026, 1, 6, 12)

    def click(name: str, day: date, occurred: datetime, arrived: datetime) -> dict[str, object]:
        own = {"event_id": name, "user_id": 1, "item_id": "a", "day": day, "dt": DAY}
        return dict.fromkeys(schema) | own | {"occurred_at": occurred, "arrived_at": arrived}

    rows = pl.DataFrame(
        [
            click("fine", DAY, noon, noon),
            click("late", date(2026, 1, 5), datetime(2026, 1, 5, 23), noon),
            click("too late", date(2026, 1, 4), datetime(2026, 1, 4, 23), noon),
            click("tomorrow's", date(2026, 1, 7), datetime(2026, 1, 7), datetime(2026, 1, 7)),
            click("unborn", DAY, noon, datetime(2026, 1, 6, 11)),
            click("unix epoch", DAY, datetime(1970, 1, 1), noon),
        ],
        schema=schema,
        orient="row",
    )
    found = {b.rule: (b.level, b.rows) for b in breaches(told, [rows], ("warn", "fail"))}
    assert found == {
        "day_of_the_delivery": ("fail", 2),
        "arrives_after_it_occurred": ("warn", 1),
        "occurred_at|min": ("fail", 1),
    }


def test_a_range_of_the_request_quarantines_the_impression() -> None:
    context = tuple(
        replace(f, range=(1, 10), nullable=False) if f.name == "position" else f for f in SCENARIO.context
    )
    scenario = replace(SCENARIO, context=context)
    table = events(scenario.impressions)
    schema = pl.DataFrame(table.all_columns.empty_table()).schema
    own = {"user_id": 1, "item_id": "a", "day": DAY, "dt": DAY}
    at = {"exposed_at": datetime(2026, 1, 6), "arrived_at": datetime(2026, 1, 6)}
    rows = pl.DataFrame(
        [
            dict.fromkeys(schema) | own | at | {"impression_id": str(place), "position": place}
            for place in (1, 10, 11, 0, None)
        ],
        schema=schema,
        orient="row",
    )
    told = contract(table, scenario)
    left = refused(told, rows)
    assert dict(zip(left["impression_id"], left["reason"], strict=True)) == {
        "11": "POSITION_MAX",
        "0": "POSITION_MIN",
        "None": "POSITION_NULLABILITY",
    }
    assert told.definition != contract(table, SCENARIO).definition == ()


def test_a_range_that_contradicts_itself_or_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Range of feature 'price' must ascend, got \(2, 1\)"):
        profiles(with_limits(range=(2, 1)))
    shade = Feature(
        name="shade", expr=pl.col("surface"), dtype=pl.String(), range=(0, 1),
        encoding=Category(vocabulary="shade", capacity=8), description="A colour.",
    )  # fmt: skip
    scenario = replace(SCENARIO, context=(*SCENARIO.context, shade))
    with pytest.raises(ValueError, match="'shade' declares a range, but is String"):
        contract(events(scenario.impressions), scenario)


def test_a_reason_code_is_one_word() -> None:
    assert reason("price|check__round_number") == "PRICE_ROUND_NUMBER"
