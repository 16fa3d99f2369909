"""What a user clicked last."""

import polars as pl

from features.view import Category, Feature, LastEvents, View

LENGTH = 10

VIEW = View(
    name="user_sequence",
    keys=("user_id",),
    source=LastEvents(source="click", length=LENGTH),
    features=(
        Feature(
            name="user_last_clicked_items",
            expr=pl.col("click_items"),
            dtype=pl.List(pl.Int64()),
            encoding=Category(vocabulary="item_id", capacity=16_384, admit=3, length=LENGTH),
            description=f"Items of the user's last {LENGTH} clicks, newest first.",
        ),
    ),
    owner="ranking",
    description="The last clicks of a user, in order.",
)
