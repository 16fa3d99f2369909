"""What a user spent lately, and what and how widely they looked."""

from datetime import timedelta
from functools import partial

import polars as pl

from features.aggregates import Aggregate
from features.view import Category, Dense, View, Windows, windowed

_DAY, _THREE = timedelta(days=1), timedelta(days=3)
_spent = partial(Aggregate, entity="user", action="conversion", column="amount_cents")
_clicked = partial(Aggregate, entity="user", action="click", column="item_id")
_MONEY = Dense(scale="log1p", center=8.0, flag=True)
_ITEMS = Dense(scale="log1p", center=1.0)

VIEW = View(
    name="user_value",
    keys=("user_id",),
    source=Windows(rollup="user_value", days=(1, 3)),
    features=(
        *(
            windowed(_spent(operation="sum", window=window), dtype=pl.Int64(), encoding=_MONEY)
            for window in (_DAY, _THREE)
        ),
        windowed(_spent(operation="mean", window=_THREE), dtype=pl.Float64(), encoding=_MONEY),
        windowed(_spent(operation="min", window=_THREE), dtype=pl.Int64(), encoding=_MONEY),
        windowed(_spent(operation="max", window=_THREE), dtype=pl.Int64(), encoding=_MONEY),
        windowed(_clicked(operation="distinct", window=_THREE), dtype=pl.Int64(), encoding=_ITEMS),
        windowed(
            _clicked(operation="last", window=_THREE),
            dtype=pl.String(),
            encoding=Category(vocabulary="item_id", capacity=512, admit=2),
        ),
        windowed(
            Aggregate(
                entity="user",
                operation="distinct_approx",
                action="impression",
                column="item_id",
                window=_THREE,
            ),
            dtype=pl.Int64(),
            encoding=_ITEMS,
        ),
    ),
    owner="shop",
    description="Money that a user spent, and the products that they saw and clicked.",
)
