"""What a user clicked last."""

import polars as pl

from features.view import Category, Feature, LastEvents, View

LENGTH = 5

VIEW = View(
    name="user_sequence",
    keys=("user_id",),
    source=LastEvents(source="click", length=LENGTH),
    features=(
        Feature(
            name="user_last_clicked_items",
            expr=pl.col("click_items"),
            dtype=pl.List(pl.String()),
            encoding=Category(vocabulary="item_id", capacity=512, admit=2, length=LENGTH),
            description=f"Products of the user's last {LENGTH} clicks, newest first.",
        ),
    ),
    owner="shop",
    description="The last clicks of a user, in order.",
)
