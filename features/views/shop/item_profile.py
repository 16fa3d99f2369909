"""What a product is, as the catalogue of the day before told."""

import polars as pl

from features.view import Attributes, Category, Dense, View, attribute

VIEW = View(
    name="item_profile",
    keys=("item_id",),
    source=Attributes(source="item"),
    features=(
        attribute("category", pl.String(), Category(vocabulary="category", capacity=32), "Kind of product."),
        attribute("brand_id", pl.Int64(), Category(vocabulary="brand_id", capacity=64), "Who makes it."),
        attribute("price", pl.Float64(), Dense(scale="log1p", flag=True), "Price in euros."),
    ),
    max_age_days=3,
    owner="shop",
    description="Catalogue entry of a product.",
)
