"""What a user has done in the last hours."""

from datetime import timedelta

import polars as pl

from features.aggregates import Aggregate, Rate
from features.view import Dense, View, Windows, windowed

_HOUR = timedelta(hours=1)

VIEW = View(
    name="user_now",
    keys=("user_id",),
    source=Windows(rollup="user", days=(1,), hourly="user_hour", hours=(1, 6)),
    features=(
        *(
            windowed(
                Aggregate(entity="user", operation="count", action=action, window=hours * _HOUR),
                dtype=pl.Int64(),
                encoding=Dense(scale="log1p"),
            )
            for action, hours in (("impression", 1), ("click", 1), ("impression", 6), ("impression", 24))
        ),
        windowed(
            Rate(entity="user", action="click", per="impression", window=6 * _HOUR, prior=0.25, strength=5),
            dtype=pl.Float64(),
            encoding=Dense(scale="logit", center=-1.1, spread=0.5),
        ),
    ),
    max_age_days=1,
    freshness="event",
    owner="shop",
    description="Impressions and clicks of a user in the last hours, up to a day.",
)
