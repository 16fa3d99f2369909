"""A small shop: impression -> click within an hour -> purchase within two days of the click.

A purchase may be cancelled within two hours, whole or in part; labels are net of that.

Exposures, clicks and purchases are delivered as logs of their own, each with its own ids and unit of time.
An event may reach us with the next day's delivery if it happened in a day's last hour. There are no public
logs behind it: ``tests/shop_logs.py`` makes them, to prove that a scenario is added by its declaration.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl
import pyarrow as pa

from features.aggregates import State
from features.funnel import Funnel, Objective
from features.scenario import (
    TIMESTAMP,
    CandidateRule,
    Rollup,
    Scenario,
    Source,
    event_schema,
    impression_schema,
)
from features.view import Category, Feature
from features.views.shop import (
    item_popularity,
    item_price,
    item_profile,
    on_demand,
    user_activity,
    user_now,
    user_sequence,
    user_value,
)

USER, ITEM = pa.int64(), pa.string()
CONTEXT = {"surface": pa.string(), "position": pa.int64()}
COUNTS = ("impression", "click", "conversion")


def _event(name: str, raw: Mapping[str, str], *further: tuple[str, pa.DataType]) -> Source:
    return Source(
        name=name,
        role="event",
        query=f"logs/shop/{name}",
        files=f"{name}/dt={{day}}/*.parquet",
        raw=raw,
        schema=pa.schema([*event_schema(USER, ITEM), *further]),
        key="event_id",
        late_days=1,
    )


EXPOSURE = Source(
    name="exposure",
    role="impression",
    query="logs/shop/exposure",
    files="exposure/dt={day}/*.parquet",
    raw={
        "exposure_id": "VARCHAR",
        "user_id": "BIGINT",
        "sku": "VARCHAR",
        "ts_us": "BIGINT",
        "surface": "VARCHAR",
        "position": "BIGINT",
    },
    schema=impression_schema(USER, ITEM, CONTEXT),
    key="impression_id",
    late_days=1,
)

CLICK = _event(
    "click",
    {
        "click_id": "VARCHAR",
        "exposure_id": "VARCHAR",
        "user_id": "BIGINT",
        "sku": "VARCHAR",
        "ts_s": "BIGINT",
    },
)

_ORDER = {
    "order_id": "VARCHAR",
    "user_id": "BIGINT",
    "sku": "VARCHAR",
    "ts_us": "BIGINT",
    "amount_cents": "BIGINT",
}
AMOUNT = ("amount_cents", pa.int64())

CONVERSION = _event("conversion", _ORDER, AMOUNT)

#: A source of its own, so that counts of purchases stay counts of purchases.
REFUND = _event("refund", {"refund_id": "VARCHAR", **_ORDER}, ("reverses", pa.string()), AMOUNT)

CATALOGUE = Source(
    name="item",
    role="attribute",
    query="logs/shop/item",
    files="item/dt={day}/*.parquet",
    raw={"sku": "VARCHAR", "category": "VARCHAR", "brand_id": "BIGINT", "price_cents": "BIGINT"},
    schema=pa.schema(
        [("item_id", ITEM), ("category", pa.string()), ("brand_id", pa.int64()), ("price", pa.float64())]
    ),
    key="item_id",
)

#: Changes of prices; one may correct what the delivery before told of the same instant.
PRICE = Source(
    name="price",
    role="attribute",
    query="logs/shop/price",
    files="price/dt={day}/*.parquet",
    raw={"change_id": "VARCHAR", "sku": "VARCHAR", "ts_ms": "BIGINT", "price_cents": "BIGINT"},
    schema=pa.schema(
        [
            ("change_id", pa.string()),
            ("item_id", ITEM),
            ("price_cents", pa.int64()),
            ("occurred_at", TIMESTAMP),
            ("arrived_at", TIMESTAMP),
        ]
    ),
    key="change_id",
    late_days=1,
)

CANDIDATE = Source(
    name="candidate",
    role="candidate",
    query="logs/shop/candidate",
    files="candidate/dt={day}/*.parquet",
    raw={
        "request_id": "VARCHAR",
        "user_id": "BIGINT",
        "sku": "VARCHAR",
        "surface": "VARCHAR",
        "position": "BIGINT",
    },
    schema=pa.schema(
        [
            ("candidate_id", pa.string()),
            ("request_id", pa.string()),
            ("user_id", USER),
            ("item_id", ITEM),
            *CONTEXT.items(),
        ]
    ),
    key="candidate_id",
)

FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(hours=1)),
        Objective(
            name="conversion",
            log="conversion",
            given="click",
            window=timedelta(days=2),
            value="amount_cents",
            reversals="refund",
            reversible=timedelta(hours=2),
            segment="category",
        ),
    ),
    click="click",
    conversion="conversion",
)

SCENARIO = Scenario(
    name="shop",
    zone="Europe/Berlin",
    impressions=EXPOSURE,
    events=(CLICK, CONVERSION, REFUND),
    attributes=(CATALOGUE, PRICE),
    candidates_log=CANDIDATE,
    rollups=(
        Rollup(name="user", keys=("user_id",), query="rollups/shop/user", counts=COUNTS),
        Rollup(name="item", keys=("item_id",), query="rollups/shop/item", counts=COUNTS),
        Rollup(
            name="user_value",
            keys=("user_id",),
            query="rollups/shop/user_value",
            counts=(),
            measures=(
                State(merge="sum", action="conversion", column="amount_cents", counts=True),
                *(
                    State(merge=merge, action="conversion", column="amount_cents")
                    for merge in ("sum", "min", "max")
                ),
                State(merge="last", action="click", column="item_id"),
                State(merge="union", action="click", column="item_id"),
                State(merge="sketch", action="impression", column="item_id"),
            ),
        ),
        Rollup(
            name="user_hour",
            keys=("user_id",),
            query="rollups/shop/user_hour",
            counts=("impression", "click"),
            bucket="hour",
        ),
    ),
    funnel=FUNNEL,
    context=(
        Feature(
            name="user_id",
            expr=pl.col("user_id"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="user_id", capacity=512, admit=2),
            description="The user.",
        ),
        Feature(
            name="item_id",
            expr=pl.col("item_id"),
            dtype=pl.String(),
            encoding=Category(vocabulary="item_id", capacity=512, admit=2),
            description="The product.",
        ),
        Feature(
            name="surface",
            expr=pl.col("surface"),
            dtype=pl.String(),
            encoding=Category(vocabulary="surface", capacity=8),
            description="Page on which the product was shown.",
        ),
        Feature(
            name="position",
            expr=pl.col("position"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="position", capacity=16),
            description="Place on the page, from 1.",
        ),
    ),
    views=(
        item_profile.VIEW,
        user_activity.VIEW,
        item_popularity.VIEW,
        user_value.VIEW,
        user_now.VIEW,
        user_sequence.VIEW,
        item_price.VIEW,
    ),
    on_demand=on_demand.FEATURES,
    candidates=CandidateRule(user_days=1, item_days=2, items=20),
    lateness=timedelta(hours=1),
    skew=timedelta(seconds=5),
)
