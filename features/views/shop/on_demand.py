"""What a request and the views of its user and product say together."""

import polars as pl

from features.view import Dense, Feature

_PAID = pl.col("user_conversion_amount_cents_mean_3d")

FEATURES = (
    Feature(
        name="price_per_mean_paid",
        expr=pl.when(_PAID > 0).then(pl.col("price") * 100 / _PAID),
        dtype=pl.Float64(),
        encoding=Dense(scale="log1p", center=2.0, flag=True),
        range=(0, float("inf")),
        description="Price of the product over the mean that the user paid in 3 d; null without a purchase.",
    ),
    Feature(
        name="price_is_cut",
        expr=(pl.col("current_price_cents") < pl.col("price") * 100).cast(pl.Int64),
        dtype=pl.Int64(),
        encoding=Dense(flag=True),
        range=(0, 1),
        description="1 if the product costs less now than its catalogue entry says, else 0.",
    ),
    Feature(
        name="is_last_clicked",
        expr=(pl.col("item_id") == pl.col("user_click_item_id_last_3d")).cast(pl.Int64),
        dtype=pl.Int64(),
        encoding=Dense(),
        default=0,
        range=(0, 1),
        description="1 if the product is the one that the user clicked last within 3 d, else 0.",
    ),
)
