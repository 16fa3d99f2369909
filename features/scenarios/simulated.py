"""A simulated funnel: impression -> click within an hour -> conversion within seven days of the click.

``funnelcast simulate`` writes its logs, and the truth about every impression beside them. A day's candidates
are the impressions of the day after, each a request of its own: the scores published for a day and the truth
about it meet in ``request_id = impression_id``.
"""

from datetime import timedelta

import polars as pl
import pyarrow as pa

from features.funnel import Funnel, Objective
from features.scenario import CandidateRule, Rollup, Scenario, Source, event_schema, impression_schema
from features.simulation.noise import LATENESS
from features.simulation.settings import WINDOW_DAYS
from features.view import Category, Feature
from features.views.simulated import item_popularity, item_profile, user_activity

ID = pa.int64()
CONTEXT = {"position": pa.int64()}
COUNTS = ("impression", "click", "conversion")
_PAIR = {"user_id": "BIGINT", "item_id": "BIGINT"}
_EVENT = {"exposure_id": "VARCHAR", **_PAIR, "ts_us": "BIGINT"}


def _action(name: str) -> Source:
    return Source(
        name=name,
        role="event",
        query="logs/simulated/action",
        files=f"{name}/dt={{day}}/*.parquet",
        raw={"event_id": "VARCHAR", **_EVENT},
        schema=event_schema(ID, ID),
        key="event_id",
        late_days=1,
    )


EXPOSURE = Source(
    name="exposure",
    role="impression",
    query="logs/simulated/exposure",
    files="exposure/dt={day}/*.parquet",
    raw={**_EVENT, "position": "BIGINT"},
    schema=impression_schema(ID, ID, CONTEXT),
    key="impression_id",
    late_days=1,
)

ITEM = Source(
    name="item",
    role="attribute",
    query="logs/simulated/item",
    files="item/dt={day}/*.parquet",
    raw={"item_id": "BIGINT", "category": "VARCHAR"},
    schema=pa.schema([("item_id", ID), ("category", pa.string())]),
    key="item_id",
)

CANDIDATE = Source(
    name="candidate",
    role="candidate",
    query="logs/simulated/candidate",
    files="candidate/dt={day}/*.parquet",
    raw={"request_id": "VARCHAR", **_PAIR, "position": "BIGINT"},
    schema=pa.schema(
        [
            ("candidate_id", pa.string()),
            ("request_id", pa.string()),
            ("user_id", ID),
            ("item_id", ID),
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
            window=timedelta(days=WINDOW_DAYS),
            segment="category",
        ),
    ),
    click="click",
    conversion="conversion",
)

SCENARIO = Scenario(
    name="simulated",
    zone="UTC",
    impressions=EXPOSURE,
    events=(_action("click"), _action("conversion")),
    attributes=(ITEM,),
    candidates_log=CANDIDATE,
    rollups=(
        Rollup(name="user", keys=("user_id",), query="rollups/simulated/user", counts=COUNTS),
        Rollup(name="item", keys=("item_id",), query="rollups/simulated/item", counts=COUNTS),
    ),
    funnel=FUNNEL,
    context=(
        Feature(
            name="user_id",
            expr=pl.col("user_id"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="user_id", capacity=65_536, admit=2, expire_days=30),
            description="The user.",
        ),
        Feature(
            name="item_id",
            expr=pl.col("item_id"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="item_id", capacity=16_384, admit=2, expire_days=30),
            description="The item.",
        ),
        Feature(
            name="position",
            expr=pl.col("position"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="position", capacity=128),
            description="Place on the page, from 1.",
        ),
    ),
    views=(item_profile.VIEW, item_popularity.VIEW, user_activity.VIEW),
    candidates=CandidateRule(user_days=1, item_days=2, items=20),
    lateness=LATENESS,
)
