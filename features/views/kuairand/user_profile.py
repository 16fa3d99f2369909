"""Who a user is, as the publisher's one snapshot tells."""

import polars as pl

from features.view import Attributes, Category, Dense, Feature, View, attribute

#: Encrypted one-hot codes of the publisher and the size of each code's vocabulary.
CODES = {0: 8, 1: 16, 2: 128, 3: 2048, 4: 32, 5: 64, 6: 8, 7: 256, 8: 1024, 9: 16, 10: 16, 11: 16}
FLAGS = range(12, 18)


def _code(number: int, capacity: int) -> Feature:
    name = f"onehot_feat{number}"
    encoding = Category(vocabulary=name, capacity=capacity)
    return attribute(name, pl.Int64(), encoding, f"Encrypted attribute {number} of the user.")


VIEW = View(
    name="user_profile",
    keys=("user_id",),
    source=Attributes(source="user"),
    features=(
        attribute(
            "user_active_degree",
            pl.String(),
            Category(vocabulary="user_active_degree", capacity=32),
            "Degree of activity, a class of the publisher.",
        ),
        attribute("is_live_streamer", pl.Int64(), Dense(flag=True), "1 if the user streams live."),
        attribute("is_video_author", pl.Int64(), Dense(), "1 if the user uploads videos."),
        attribute(
            "follow_user_num",
            pl.Int64(),
            Dense(scale="log1p", center=4.8, spread=1.6),
            "Users whom the user follows.",
        ),
        attribute(
            "fans_user_num",
            pl.Int64(),
            Dense(scale="log1p", center=3.9, spread=2.0),
            "Users who follow the user.",
        ),
        attribute(
            "friend_user_num",
            pl.Int64(),
            Dense(scale="log1p", center=3.0, spread=2.0),
            "Friends of the user.",
        ),
        attribute(
            "register_days",
            pl.Int64(),
            Dense(scale="log1p", center=6.7, spread=1.0),
            "Days since the user registered.",
        ),
        *(_code(number, capacity) for number, capacity in CODES.items()),
        *(_code(number, 8) for number in FLAGS),
    ),
    owner="ranking",
    description="Attributes of a user, from the one snapshot that was published.",
)
