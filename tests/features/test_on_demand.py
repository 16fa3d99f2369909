"""Features on demand: their values by hand, one path for samples and candidates, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from candidate_rows import joined, log_of

from features.candidates import from_rule
from features.encode import Layout
from features.errors import UsageError
from features.labels import attribute
from features.on_demand import add_on_demand, inputs
from features.samples import featured, with_labels
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO as SHOP
from features.view import Category, Dense, Feature
from features.views.shop import item_profile, user_value

DAY = date(2026, 1, 6)
NOON = datetime(2026, 1, 6, 12)
#: With the two views that the features of these tests read.
SCENARIO = replace(SHOP, views=(item_profile.VIEW, user_value.VIEW), on_demand=SHOP.on_demand[::2])
PAID, LAST = "user_conversion_amount_cents_mean_3d", "user_click_item_id_last_3d"


def demand(name: str, expr: pl.Expr, dtype: pl.DataType | None = None, **more: Any) -> Feature:
    return Feature(
        name=name, expr=expr, dtype=dtype or pl.Float64(), encoding=Dense(), description="One.", **more
    )


def declared(*features: Feature) -> Scenario:
    return replace(SCENARIO, on_demand=features)


def snapshot(scenario: Scenario, view: str, **values: list[Any]) -> pl.LazyFrame:
    """Rows of a view; what is not given is null."""
    (told,) = (one for one in scenario.views if one.name == view)
    rows = pl.DataFrame(values)
    return rows.with_columns(
        pl.lit(None, dtype=f.dtype).alias(f.name) for f in told.features if f.name not in values
    ).lazy()


SNAPSHOTS = {
    "item_profile": snapshot(SCENARIO, "item_profile", item_id=["tea", "cup"], price=[12.0, 3.0]),
    "user_value": snapshot(
        SCENARIO,
        "user_value",
        **{"user_id": [1, 2, 3], PAID: [800.0, None, 0.0], LAST: ["tea", "cup", None]},
    ),
}
PAIRS = [(1, "tea"), (1, "cup"), (2, "cup"), (3, "tea"), (4, "tea"), (1, "new")]
#: 12 euros over 8; 3 over 8; no purchase; a mean of nothing; an unknown user; a product without a price.
PER_PAID = [1.5, 0.375, None, None, None, None]
IS_LAST = [1, 0, 1, 0, 0, 0]


def sampled(scenario: Scenario) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "impression_id": [str(n) for n in range(len(PAIRS))],
            "user_id": [user for user, _ in PAIRS],
            "item_id": [item for _, item in PAIRS],
            "day": [DAY] * len(PAIRS),
            "exposed_at": [NOON + timedelta(seconds=n) for n in range(len(PAIRS))],
            "arrived_at": [NOON + timedelta(minutes=1)] * len(PAIRS),
            "surface": ["home"] * len(PAIRS),
            "position": list(range(1, len(PAIRS) + 1)),
        }
    )
    logs = {source.name: pl.DataFrame(source.schema.empty_table()).lazy() for source in scenario.events}
    followed = attribute(
        rows.lazy(),
        {o.name: logs[o.log] for o in scenario.funnel},
        scenario.funnel,
        skew=scenario.skew,
        reversals={o.name: logs[o.reversals] for o in scenario.funnel if o.reversals},
        as_of=NOON + timedelta(hours=12),
    )
    known = featured(rows.lazy(), scenario, SNAPSHOTS)
    made = with_labels(known, followed.labels, scenario, watermark=NOON + timedelta(hours=12))
    return made.collect().sort("impression_id")


def scored(scenario: Scenario, folder: Path) -> pl.DataFrame:
    log = pl.LazyFrame(
        {
            "request_id": [str(n) for n in range(len(PAIRS))],
            "user_id": [user for user, _ in PAIRS],
            "item_id": [item for _, item in PAIRS],
            "surface": ["home"] * len(PAIRS),
            "position": list(range(1, len(PAIRS) + 1)),
        }
    )
    return joined(log_of(log, scenario, SNAPSHOTS, folder, 2)).sort("request_id")


def test_samples_and_candidates_have_the_values_that_are_counted_by_hand(tmp_path: Path) -> None:
    for rows in (sampled(SCENARIO), scored(SCENARIO, tmp_path)):
        assert rows["price_per_mean_paid"].to_list() == PER_PAID
        assert rows["is_last_clicked"].to_list() == IS_LAST
        assert (rows["price_per_mean_paid"].dtype, rows["is_last_clicked"].dtype) == (pl.Float64, pl.Int64)


def test_pairs_of_the_rule_have_them_too() -> None:
    impressions = pl.LazyFrame(
        {
            "impression_id": ["a", "b"],
            "user_id": [1, 2],
            "item_id": ["x", "y"],
            "day": [DAY - timedelta(days=1)] * 2,
            "exposed_at": [NOON] * 2,
            "surface": ["home"] * 2,
            "position": [1, 2],
        }
    )
    clicks = pl.LazyFrame({"item_id": ["tea", "cup"], "day": [DAY - timedelta(days=1)] * 2})
    pairs = joined(from_rule(impressions, clicks, SCENARIO, SNAPSHOTS, DAY))
    told = pairs.sort("user_id", "item_id").select("user_id", "item_id", "price_per_mean_paid")
    assert told.rows() == [(1, "cup", 0.375), (1, "tea", 1.5), (2, "cup", None), (2, "tea", None)]


def test_one_feature_reads_another_that_is_declared_before_it_and_the_request(tmp_path: Path) -> None:
    ratio, _ = SCENARIO.on_demand
    per_place = demand("per_place", pl.col("price_per_mean_paid") / pl.col("position"), default=-1.0)
    rounded = demand("rounded", pl.col("per_place").round(1).cast(pl.Int64), pl.Int64())
    scenario = declared(ratio, per_place, rounded)
    for rows in (sampled(scenario), scored(scenario, tmp_path)):
        assert rows["per_place"].to_list() == [1.5, 0.1875, -1.0, -1.0, -1.0, -1.0]
        assert rows["rounded"].to_list() == [1, 0, -1, -1, -1, -1]
    with pytest.raises(UsageError, match=r"'per_place': reads 'price_per_mean_paid', which is no column"):
        declared(per_place, ratio)


def test_a_feature_on_demand_is_encoded_like_any_other() -> None:
    shelf = replace(
        demand("shelf", pl.col("surface") + "/" + pl.col("category"), pl.String()),
        encoding=Category(vocabulary="shelf", capacity=64),
    )
    layout = Layout.of(declared(*SCENARIO.on_demand, shelf).features)
    assert "shelf" in layout.vocabularies
    assert {"price_per_mean_paid", "price_per_mean_paid_missing"} <= set(layout.dense_columns)
    assert inputs(shelf) == ("surface", "category")


PRICE = pl.col("price")
UDF = PRICE.map_batches(lambda values: values, return_dtype=pl.Float64, is_elementwise=True)


@pytest.mark.parametrize(
    ("expr", "says"),
    [
        (pl.col("prise") * 2, r"reads 'prise', which is no column .* Next: did you mean 'price'"),
        (PRICE * pl.col("y_click"), "reads 'y_click', which is known only after the exposure"),
        (PRICE * pl.col("n_conversion"), "reads 'n_conversion', which is known only after the exposure"),
        (pl.col("age_hours"), "reads 'age_hours', which is known only after"),
        (pl.col("amount_cents") / PRICE, "reads 'amount_cents', which is known only after the exposure"),
        (pl.col("exposed_at").dt.hour(), "reads 'exposed_at', which is a column of impressions that cand"),
        (pl.col("arrived_at").dt.hour(), "reads 'arrived_at', which is a column of impressions that cand"),
        (PRICE - PRICE.mean(), "reads other rows than its own"),
        (pl.when(PRICE > 1e9).then(PRICE.max()).otherwise(PRICE), "reads other rows than its own"),
        (PRICE / PRICE.sum().over("category"), "reads other rows than its own"),
        (PRICE.shift(1), "reads other rows than its own"),
        (PRICE.cum_sum(), "reads other rows than its own"),
        (PRICE.rank(), "reads other rows than its own"),
        (PRICE.rolling_mean(3), "reads other rows than its own"),
        (PRICE.fill_null(strategy="forward"), "reads other rows than its own"),
        (PRICE * pl.len(), "reads other rows than its own"),
        (PRICE.sort(), "reads other rows than its own"),
        (PRICE.filter(PRICE > 0), "reads other rows than its own"),
        (PRICE.is_duplicated(), "reads other rows than its own"),
        (UDF, "calls Python code"),
        (pl.lit(1.0), "does not name the columns that it reads"),
        (pl.sum_horizontal(pl.all()), "does not name the columns that it reads"),
        (pl.col("price", PAID), "does not name the columns that it reads"),
        (pl.col("category") * PRICE, "Polars cannot compute it"),
    ],
)
def test_what_is_no_value_of_a_row_known_in_time_is_refused_where_it_is_declared(
    expr: pl.Expr, says: str
) -> None:
    with pytest.raises(UsageError, match=rf"^E201 UsageError: feature on demand 'odd': .*{says}"):
        declared(demand("odd", expr))


@pytest.mark.parametrize("name", ["price", "y_click", "position", "exposed_at", "label_state"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}': there is such a column already"):
        declared(demand(name, PRICE * 2))


def test_the_hour_of_the_request_can_be_read_if_both_logs_bring_it_along() -> None:
    log = SCENARIO.candidates_log
    assert log is not None
    hour = pa.field("hour", pa.int64())
    shown = replace(SCENARIO.impressions, schema=SCENARIO.impressions.schema.append(hour))
    asked = replace(log, schema=log.schema.append(hour))
    quarter = demand("quarter", pl.col("hour") // 6, pl.Int64())
    both = replace(SCENARIO, impressions=shown, candidates_log=asked, on_demand=(quarter,))
    assert both.brought["hour"] == pl.Int64()
    with pytest.raises(UsageError, match="reads 'hour', which is no column of the request"):
        replace(both, candidates_log=log)


@pytest.mark.parametrize(
    "expr",
    [
        pl.when(PRICE > 0).then(pl.col(PAID) / PRICE),
        pl.min_horizontal("price", PAID),
        pl.coalesce(PRICE, pl.col(PAID)),
        pl.col("surface").str.len_chars(),
        pl.col("item_id").is_in(["tea", "cup"]),
        pl.col("item_id").eq_missing(pl.col(LAST)),
        PRICE.clip(0, 9).log1p(),
    ],
)
def test_a_value_of_a_row_is_the_same_whatever_rows_stand_around_it(expr: pl.Expr, tmp_path: Path) -> None:
    """Every row alone, against all together."""
    scenario = declared(demand("own", expr))
    rows = scored(scenario, tmp_path)
    alone = [
        add_on_demand(row.drop("own").lazy(), scenario.on_demand).collect() for row in rows.iter_slices(1)
    ]
    assert pl.concat(alone).select(rows.columns).equals(rows)
