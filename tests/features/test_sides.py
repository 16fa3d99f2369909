"""Features on the side that they follow from, against all of them on joined rows."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from features.encode import Encoder, Layout
from features.encodings import Hashed
from features.id_maps import empty_map
from features.samples import add_context
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.sides import Division
from features.view import Dense, Feature


def feature(name: str, expr: pl.Expr, encoding: Dense | Hashed) -> Feature:
    return Feature(name=name, expr=expr, dtype=pl.Float64(), encoding=encoding, description="made up")


def shop() -> Scenario:
    """Four features on demand beside a request of two ids and two columns, without views."""
    page = Hashed(vocabulary="page", buckets=50, by=("item_id", "surface"))
    features = (
        feature("later", pl.col("position") + 1, Dense(flag=True)),
        feature("length", pl.col("item_id").str.len_bytes(), Dense()),
        feature("both", pl.col("later") * pl.col("length"), Dense()),
        replace(feature("page", pl.col("surface"), page), dtype=pl.String()),
    )
    return replace(SCENARIO, views=(), on_demand=features)


def test_a_feature_belongs_to_whom_all_that_it_reads_belongs_to() -> None:
    rule = Division.of(shop(), user=["user_id", "surface", "position"], item=["item_id"])
    assert rule.encoded == {
        **{"user_id": "user", "item_id": "item", "surface": "user", "position": "user"},
        **{"later": "user", "length": "item", "both": "pair", "page": "pair"},
    }
    assert [one.name for one in rule.on_demand["user"]] == ["later", "page"]  # its value, not its cross
    log = Division.of(shop(), user=["user_id"], item=["item_id"])
    assert log.features("pair") == ("surface", "position", "later", "both", "page")


def test_views_belong_to_whom_their_keys_belong_to() -> None:
    division = Division.of(SCENARIO, user=["user_id", "surface", "position"], item=["item_id"])
    assert [view.name for view in division.views["item"]] == ["item_profile", "item_popularity", "item_price"]
    assert [view.name for view in division.views["user"]] == [
        *("user_activity", "user_value", "user_now", "user_sequence"),
    ]
    assert {one.name for one in division.on_demand["pair"]} == {"price_per_mean_paid", "is_last_clicked"}
    assert {one.name for one in division.on_demand["item"]} == {"price_is_cut"}


def test_what_is_computed_and_encoded_by_side_is_what_joined_rows_have() -> None:
    scenario = shop()
    division = Division.of(scenario, user=["user_id", "surface", "position"], item=["item_id"])
    users = pl.LazyFrame({"user_id": [1, 2], "surface": ["home", None], "position": [3, None]})
    items = pl.LazyFrame({"item_id": ["a", "bcd", "ef"]})
    pairs = users.join(items, how="cross", maintain_order="left_right")
    plain = add_context(pairs, scenario)
    for one in scenario.on_demand:
        plain = plain.with_columns(one.expr.cast(one.dtype).alias(one.name))
    encoder = Encoder(Layout.of(scenario.features), empty_map())
    whole = encoder.encode(plain.collect())

    left, right = division.complete("user", users, {}), division.complete("item", items, {})
    carried = [name for name in left.collect_schema().names() if name in division.needed | {"user_id"}]
    both = left.select(carried).join(
        right.select({"item_id", "length"} & division.needed), how="cross", maintain_order="left_right"
    )
    frames = {
        "user": left.collect(),
        "item": right.collect(),
        "pair": division.complete("pair", both, {}).collect(),
    }
    rows = {"user": [0, 0, 0, 1, 1, 1], "item": [0, 1, 2, 0, 1, 2], "pair": range(6)}
    singles = [one.name for one in encoder.layout.singles]
    dense = list(encoder.layout.dense_columns)
    for side, frame in frames.items():
        part = encoder.part(division.features(side))
        arrays = part.encode(frame)
        for place, one in enumerate(part.layout.singles):
            assert (
                arrays["rows"][list(rows[side]), place].tolist()
                == whole["rows"][:, singles.index(one.name)].tolist()
            )
        for place, name in enumerate(part.layout.dense_columns):
            assert (
                arrays["dense"][list(rows[side]), place].tolist()
                == whole["dense"][:, dense.index(name)].tolist()
            )


@pytest.mark.parametrize(
    ("known", "asked", "kept"),
    [
        ([1, 2, 3, 4, 5], [4, 2], [2, 3, 4]),
        ([1, 2, 3], [None, 2], [2]),
        ([1, 2, 3], [None], []),
        (["B", "a", "b", "\u00e4"], ["a", "z"], ["a", "b"]),
    ],
)
def test_near_some_users_a_view_of_users_has_those_between_them_and_any_other_view_all(
    known: list[int | str], asked: list[int | str | None], kept: list[int | str]
) -> None:
    division = Division.of(SCENARIO, user=["user_id"], item=["item_id"])
    of_users, of_items = pl.LazyFrame({"user_id": known}), pl.LazyFrame({"item_id": ["a"]})
    told = {"user_activity": of_users, "item_profile": of_items, "user_value": None}
    near = division.near(pl.Series(asked, dtype=of_users.collect_schema()["user_id"]), told)
    assert near.keys() == told.keys()
    assert near["user_activity"].collect()["user_id"].to_list() == kept
    assert near["item_profile"] is of_items
    assert near["user_value"] is None
