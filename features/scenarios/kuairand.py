"""KuaiRand-Pure: short videos; impression -> click -> long view, and like given the impression.

Source of the logs: Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly
Exposed Videos", CIKM 2022. What happened after an exposure is a flag of the exposure's own row, so every
window is zero: the outcome arrives with the row.
"""

from datetime import timedelta

import polars as pl
import pyarrow as pa

from features.funnel import Funnel, Objective
from features.scenario import CandidateRule, Rollup, Scenario, Source, event_schema, impression_schema
from features.view import Category, Feature
from features.views.kuairand import (
    author_popularity,
    duration_tab_popularity,
    item_popularity,
    item_profile,
    item_tab_popularity,
    user_activity,
    user_profile,
    user_sequence,
    user_tab_activity,
)

LOG = "log_standard/dt={day}/*.parquet"
LOG_COLUMNS = {
    "user_id": "BIGINT",
    "video_id": "BIGINT",
    "time_ms": "BIGINT",
    "is_click": "BIGINT",
    "long_view": "BIGINT",
    "is_like": "BIGINT",
    "tab": "BIGINT",
}
#: Codes that are null for some users and therefore stored as doubles.
NULLABLE_CODES = (4, 12, 13, 14, 15, 16, 17)
COUNTS = ("impression", "click", "long_view", "like")


def _action(name: str) -> Source:
    return Source(
        name=name,
        role="event",
        query="logs/kuairand/action",
        files=LOG,
        raw=LOG_COLUMNS,
        schema=event_schema(pa.int64(), pa.int64()).append(pa.field("tab", pa.int64())),
        key="event_id",
        params={"action": name},
        late_days=1,
    )


EXPOSURE = Source(
    name="exposure",
    role="impression",
    query="logs/kuairand/exposure",
    files=LOG,
    raw=LOG_COLUMNS,
    schema=impression_schema(pa.int64(), pa.int64(), {"tab": pa.int64()}),
    key="impression_id",
    late_days=1,
)

USER = Source(
    name="user",
    role="attribute",
    query="logs/kuairand/user",
    files="user_features_pure.parquet",
    raw={
        "user_id": "BIGINT",
        "user_active_degree": "VARCHAR",
        "is_live_streamer": "BIGINT",
        "is_video_author": "BIGINT",
        "follow_user_num": "BIGINT",
        "fans_user_num": "BIGINT",
        "friend_user_num": "BIGINT",
        "register_days": "BIGINT",
        **{f"onehot_feat{n}": "DOUBLE" if n in NULLABLE_CODES else "BIGINT" for n in range(18)},
    },
    schema=pa.schema(
        [
            ("user_id", pa.int64()),
            ("user_active_degree", pa.string()),
            ("is_live_streamer", pa.int64()),
            ("is_video_author", pa.int64()),
            ("follow_user_num", pa.int64()),
            ("fans_user_num", pa.int64()),
            ("friend_user_num", pa.int64()),
            ("register_days", pa.int64()),
            *((f"onehot_feat{n}", pa.int64()) for n in range(18)),
        ]
    ),
    key="user_id",
    timeless=True,
)

ITEM = Source(
    name="item",
    role="attribute",
    query="logs/kuairand/item",
    files="video_features_basic_pure.parquet",
    raw={
        "video_id": "BIGINT",
        "author_id": "BIGINT",
        "video_type": "VARCHAR",
        "upload_type": "VARCHAR",
        "video_duration": "DOUBLE",
        "server_width": "DOUBLE",
        "server_height": "DOUBLE",
        "music_id": "BIGINT",
        "music_type": "DOUBLE",
        "tag": "VARCHAR",
    },
    schema=pa.schema(
        [
            ("item_id", pa.int64()),
            ("author_id", pa.int64()),
            ("video_type", pa.string()),
            ("upload_type", pa.string()),
            ("duration_s", pa.float64()),
            ("duration_class", pa.int64()),
            ("aspect", pa.float64()),
            ("music_id", pa.int64()),
            ("music_type", pa.int64()),
            ("tags", pa.list_(pa.int64())),
        ]
    ),
    key="item_id",
    timeless=True,
)

FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(0)),
        Objective(name="long_view", log="long_view", given="click", window=timedelta(0)),
        Objective(name="like", log="like", window=timedelta(0)),
    ),
    click="click",
    conversion="long_view",
)

SCENARIO = Scenario(
    name="kuairand",
    zone="Asia/Shanghai",
    impressions=EXPOSURE,
    events=(_action("click"), _action("long_view"), _action("like")),
    attributes=(USER, ITEM),
    rollups=(
        Rollup(name="user", keys=("user_id",), query="rollups/kuairand/user", counts=COUNTS),
        Rollup(name="item", keys=("item_id",), query="rollups/kuairand/item", counts=COUNTS),
        Rollup(
            name="author",
            keys=("author_id",),
            query="rollups/kuairand/author",
            counts=COUNTS,
            attributes=("item",),
        ),
        Rollup(
            name="user_tab",
            keys=("user_id", "tab"),
            query="rollups/kuairand/user_tab",
            counts=COUNTS,
            context=("tab",),
        ),
        Rollup(
            name="item_tab",
            keys=("item_id", "tab"),
            query="rollups/kuairand/item_tab",
            counts=COUNTS,
            context=("tab",),
        ),
        Rollup(
            name="duration_tab",
            keys=("duration_class", "tab"),
            query="rollups/kuairand/duration_tab",
            counts=COUNTS,
            attributes=("item",),
            context=("tab",),
        ),
    ),
    funnel=FUNNEL,
    context=(
        Feature(
            name="user_id",
            expr=pl.col("user_id"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="user_id", capacity=32_768, admit=3),
            description="The user.",
        ),
        Feature(
            name="item_id",
            expr=pl.col("item_id"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="item_id", capacity=16_384, admit=3),
            description="The video.",
        ),
        Feature(
            name="tab",
            expr=pl.col("tab"),
            dtype=pl.Int64(),
            encoding=Category(vocabulary="tab", capacity=32),
            description="Scene of the app in which the video was shown.",
        ),
    ),
    views=(
        user_profile.VIEW,
        item_profile.VIEW,
        user_activity.VIEW,
        item_popularity.VIEW,
        author_popularity.VIEW,
        user_tab_activity.VIEW,
        item_tab_popularity.VIEW,
        duration_tab_popularity.VIEW,
        user_sequence.VIEW,
    ),
    candidates=CandidateRule(user_days=1, item_days=3, items=20),
)
