"""What an item is."""

import polars as pl

from features.view import Attributes, Category, View, attribute

VIEW = View(
    name="item_profile",
    keys=("item_id",),
    source=Attributes(source="item"),
    features=(
        attribute(
            "category", pl.String(), Category(vocabulary="category", capacity=64), "Segment of the item."
        ),
    ),
    max_age_days=3,
    owner="simulated",
    description="Catalogue entry of an item.",
)
