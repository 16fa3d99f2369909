"""What an item is."""

import polars as pl

from features.view import Attributes, Category, Dense, View, attribute

VIEW = View(
    name="item_profile",
    keys=("item_id",),
    source=Attributes(source="item"),
    features=(
        attribute(
            "author_id",
            pl.Int64(),
            Category(vocabulary="author_id", capacity=16_384, admit=3),
            "Who uploaded the video.",
        ),
        attribute(
            "video_type", pl.String(), Category(vocabulary="video_type", capacity=16), "Normal video or ad."
        ),
        attribute(
            "upload_type", pl.String(), Category(vocabulary="upload_type", capacity=64), "Way of upload."
        ),
        attribute(
            "music_id",
            pl.Int64(),
            Category(vocabulary="music_id", capacity=16_384, admit=10),
            "Background music.",
        ),
        attribute("music_type", pl.Int64(), Category(vocabulary="music_type", capacity=16), "Kind of music."),
        attribute(
            "tags",
            pl.List(pl.Int64()),
            Category(vocabulary="tag", capacity=256, length=3),
            "Topics of the video, up to three.",
        ),
        attribute(
            "duration_s",
            pl.Float64(),
            Dense(scale="log1p", center=4.2, flag=True),
            "Length of the video in seconds.",
        ),
        attribute(
            "duration_class",
            pl.Int64(),
            Category(vocabulary="duration_class", capacity=32),
            "Class of the length, 1.5 classes per factor e.",
        ),
        attribute(
            "aspect",
            pl.Float64(),
            Dense(center=1.5, spread=0.5, flag=True),
            "Height of the picture over its width.",
        ),
    ),
    owner="ranking",
    description="Basic attributes of a video.",
)
