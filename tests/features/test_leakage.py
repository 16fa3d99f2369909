"""Leaks that are planted are found, and what only chance or a strong signal tells is not called one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from features import scenarios
from features.funnel import Funnel, Objective
from features.schemas import samples as sample_table
from features.validation.leakage import auc, copies, outcomes, refuse_outcomes, separations
from features.view import Category, Dense, Feature

FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(hours=1)),
        Objective(name="order", log="order", given="click", window=timedelta(days=1)),
    ),
    click="click",
    conversion="order",
)
ROWS = 2_000


def quantity(name: str, read: str | None = None) -> Feature:
    return Feature(
        name=name, expr=pl.col(read or name), dtype=pl.Float64(), encoding=Dense(), description="A quantity."
    )


def code(name: str, dtype: pl.DataType | None = None) -> Feature:
    return Feature(
        name=name,
        expr=pl.col(name),
        dtype=dtype or pl.Int64(),
        encoding=Category(vocabulary=name, capacity=8),
        description="A code.",
    )


def labels(seed: int = 1, rate: float = 0.2) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    click = chance.random(ROWS) < rate
    order = click & (chance.random(ROWS) < 0.4)
    return pl.DataFrame(
        {
            "y_click": click.astype(np.int8),
            "in_space_click": np.ones(ROWS, dtype=np.bool_),
            "y_order": order.astype(np.int8),
            "in_space_order": click,
        }
    )


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({y for _, y in rows}) == 2
    )
)
def test_the_auc_is_that_of_scikit_learn_with_ties(rows: list[tuple[int, bool]]) -> None:
    ranks, y = np.array([rank for rank, _ in rows]), np.array([label for _, label in rows])
    assert auc(ranks, y) == pytest.approx(roc_auc_score(y, ranks), abs=1e-12)


def test_a_quantity_is_ranked_by_its_value_with_missing_ones_below_all() -> None:
    rows = labels()
    chance = np.random.default_rng(2)
    noisy = rows["y_click"].to_numpy() + chance.normal(0, 0.7, ROWS)
    noisy[chance.random(ROWS) < 0.1] = np.nan
    rows = rows.with_columns(pl.Series("x", noisy))
    found = {one.objective: one for one in separations([quantity("x")], FUNNEL, rows)}
    low = np.where(np.isnan(noisy), -1e9, noisy)
    inside = rows["in_space_order"].to_numpy()
    for objective, part in (("click", np.ones(ROWS, dtype=np.bool_)), ("order", inside)):
        y = rows[f"y_{objective}"].to_numpy()[part]
        expected = roc_auc_score(y, low[part])
        assert found[objective].auc == pytest.approx(max(expected, 1 - expected), abs=1e-12)
        assert (found[objective].rows, found[objective].positives) == (part.sum(), y.sum())


def test_a_code_is_ranked_by_its_rate_in_the_other_half_of_the_rows() -> None:
    rows = labels()
    chance = np.random.default_rng(2)
    group = np.where(chance.random(ROWS) < 0.8, rows["y_click"].to_numpy(), 1 - rows["y_click"].to_numpy())
    rows = rows.with_columns(pl.Series("group", group * 3 + chance.integers(0, 3, ROWS)))
    (found,) = (one for one in separations([code("group")], FUNNEL, rows) if one.objective == "click")
    y = rows["y_click"].to_numpy()
    scores = []
    for n, value in enumerate(rows["group"]):
        other = range(1 - n % 2, ROWS, 2)
        own = [int(y[m]) for m in other if rows["group"][m] == value]
        base = sum(int(y[m]) for m in other) / len(other)
        scores.append(round((sum(own) - len(own) * base) / (len(own) + 20), 9))
    assert found.auc == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
    assert 0.75 < found.auc < 0.85


def test_an_id_that_is_seen_once_tells_nothing() -> None:
    """Ranked by its own row it would have an AUC of one."""
    rows = labels().with_columns(pl.int_range(pl.len()).alias("user"), pl.lit(7).alias("always"))
    found = separations([code("user"), code("always")], FUNNEL, rows)
    assert {one.auc for one in found} == {0.5}
    assert copies([code("user"), code("always")], FUNNEL, rows) == []


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (quantity("leak"), pl.col("y_click").cast(pl.Float64)),
        (quantity("leak"), 7.5 - 2 * pl.col("y_click")),
        (quantity("leak"), pl.col("y_click") * 100 + pl.int_range(pl.len()) % 90),
        (quantity("leak"), pl.when(pl.col("y_click") == 1).then(1.0)),
        (code("leak"), pl.col("y_click").cast(pl.Int64)),
        (code("leak"), 1 - pl.col("y_click").cast(pl.Int64)),
        (code("leak", pl.String()), pl.when(pl.col("y_click") == 1).then(pl.lit("yes"))),
        (code("leak", pl.List(pl.Int64())), pl.concat_list(pl.col("y_click").cast(pl.Int64), pl.lit(3))),
    ],
    ids=["equal", "falling", "cut", "missing", "code", "negated", "text or null", "list"],
)
def test_a_label_by_another_name_is_a_copy(feature: Feature, values: pl.Expr) -> None:
    rows = labels().with_columns(values.alias("leak"))
    (found,) = copies(
        [feature, quantity("y_order")], FUNNEL, rows.with_columns(pl.col("y_order").cast(float))
    )[:1]
    assert (found.feature, found.objective, found.rows) == ("leak", "click", ROWS)
    assert found.positives == rows["y_click"].sum()


def test_one_row_that_disagrees_makes_it_a_strong_feature_and_no_copy() -> None:
    rows = labels().with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(1 - pl.col("y_click"))
        .otherwise(pl.col("y_click"))
        .alias("x")
    )
    rows = rows.with_columns(pl.col("x").cast(pl.Float64), pl.col("x").cast(pl.Int64).alias("k"))
    asked = [quantity("x"), code("k")]
    assert copies(asked, FUNNEL, rows) == []
    told = [one for one in separations(asked, FUNNEL, rows) if one.objective == "click"]
    assert all(0.99 < one.auc < 1 for one in told)


def test_a_label_with_few_positives_accuses_nobody() -> None:
    """Nine positives that happen to lie on top are no proof."""
    rows = labels(rate=0).with_columns((pl.int_range(pl.len()) < 9).cast(pl.Int8).alias("y_click"))
    rows = rows.with_columns(pl.col("y_click").cast(pl.Float64).alias("x"))
    assert copies([quantity("x")], FUNNEL, rows) == separations([quantity("x")], FUNNEL, rows) == []
    more = rows.with_columns((pl.int_range(pl.len()) < 10).cast(pl.Int8).alias("y_click"))
    assert (
        len(copies([quantity("x")], FUNNEL, more.with_columns(pl.col("y_click").cast(float).alias("x")))) == 1
    )


@pytest.mark.parametrize("name", scenarios.names())
def test_what_a_sample_holds_beside_what_was_known_is_an_outcome(name: str) -> None:
    scenario = scenarios.get(name)
    known = {*scenario.impressions.schema.names, *(f.name for f in scenario.features)}
    clock = {"age_hours", "weight", "label_as_of", "label_state", "revised_at"}
    assert set(sample_table(scenario).schema.names) - known - clock <= outcomes(scenario.funnel)
    refuse_outcomes(scenario.features, scenario.funnel)


def test_a_feature_that_reads_an_outcome_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ValueError, match="Feature 'eager' reads 'y_click', which is known only after"):
        refuse_outcomes([quantity("fine"), quantity("eager", "y_click")], FUNNEL)
    deep = replace(quantity("eager"), expr=pl.col("x") + pl.col("order_at").is_null().cast(pl.Float64))
    with pytest.raises(ValueError, match="Feature 'eager' reads 'order_at'"):
        refuse_outcomes([deep], FUNNEL)
    with pytest.raises(ValueError, match="Feature 'in_space_order' has the name of 'in_space_order'"):
        refuse_outcomes([quantity("in_space_order", "x")], FUNNEL)
    refuse_outcomes([quantity("user_click_per_impression_7d", "click_7d")], FUNNEL)  # of the days before
