"""What a product costs at the moment."""

import polars as pl

from features.view import Dense, Feature, History, View

VIEW = View(
    name="item_price",
    keys=("item_id",),
    source=History(source="price"),
    features=(
        Feature(
            name="current_price_cents",
            expr=pl.col("price_cents"),
            dtype=pl.Int64(),
            encoding=Dense(scale="log1p", center=7.5, flag=True),
            range=(0, float("inf")),
            description="Price in cents as of the last change that was known, up to a week old.",
        ),
    ),
    max_age_days=7,
    freshness="event",
    owner="shop",
    description="Price of a product, from the log of its changes.",
)
