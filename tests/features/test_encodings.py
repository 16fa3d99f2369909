"""Hashes, crosses and bins in the encoded batch, and what a declaration may not say."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from datetime import date, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.encode import Encoder, Layout
from features.encodings import Binned, Category, Dense, Encoding, Hashed
from features.hashing import cross, hash_ids
from features.id_maps import empty_map, grow, vocabularies
from features.view import Feature

DAY = date(2026, 3, 27)


def feature(name: str, dtype: pl.DataType, encoding: Encoding) -> Feature:
    return Feature(name=name, expr=pl.col(name), dtype=dtype, encoding=encoding, description="For a test.")


USER = feature("user_id", pl.Int64(), Category(vocabulary="user_id", capacity=5, admit=2, expire_days=2))
ITEM = feature("item_id", pl.String(), Category(vocabulary="item_id", capacity=7))

SHADES = feature("shade", pl.String(), Hashed(vocabulary="shade", buckets=10, seed=3))
PAGES = feature("pages", pl.List(pl.Int64()), Hashed(vocabulary="page", buckets=4, length=3))
SHADE_LISTS = st.none() | st.text(max_size=40)
PAGE_LISTS = st.none() | st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5)


def bucket(value: object, dtype: type[pl.DataType], seed: int, buckets: int) -> int:
    """The remainder of one hash, on Python's own integers."""
    return int(hash_ids(pl.Series([value], dtype=dtype), seed)[0]) % buckets


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(SHADE_LISTS, PAGE_LISTS), max_size=8))
def test_hashed_ids_go_to_the_bucket_that_the_remainder_names(
    rows: list[tuple[str | None, list[int | None] | None]],
) -> None:
    """Row 0 is padding, 1 to 12 are shades (missing, unknown, ten buckets), from 13 on pages."""
    layout = Layout.of((SHADES, PAGES))
    table = pl.DataFrame(rows, schema={"shade": pl.String, "pages": pl.List(pl.Int64)}, orient="row")
    encoder = Encoder(layout, empty_map())
    arrays = encoder.encode(table)
    assert arrays["rows"].tolist() == [
        [1 if shade is None else 3 + bucket(shade, pl.String, 3, 10)] for shade, _ in rows
    ]
    padded = [[(pages or [])[n] if n < len(pages or []) else None for n in range(3)] for _, pages in rows]
    assert arrays["bag_rows"].tolist() == [
        [0 if page is None else 15 + bucket(page, pl.Int64, 0, 4) for page in pages] for pages in padded
    ]
    assert encoder.lengths(table).tolist() == [[min(3, len(pages or []))] for _, pages in rows]
    assert layout.num_rows == 1 + 12 + 6


def test_a_cross_is_the_hash_of_its_parts_in_order_and_missing_where_one_is() -> None:
    encoding = Hashed(vocabulary="user by item", buckets=1000, by=("item_id", "shade"))
    crossed = feature("user_by_item", pl.Int64(), encoding)
    layout = Layout.of((crossed, ITEM, SHADES))
    rows = [(7, "a", "red"), (7, "a", "red"), (7, "red", "a"), (None, "a", "red"), (7, None, "red")]
    table = pl.DataFrame(rows, schema=["user_by_item", "item_id", "shade"], orient="row")
    found = Encoder(layout, empty_map()).encode(table)["rows"][:, 0]
    seven, a, red = (hash_ids(pl.Series([value])) for value in (7, "a", "red"))
    first = int(cross(cross(seven, a), red)[0] % 1000)
    third = int(cross(cross(seven, red), a)[0] % 1000)
    assert found.tolist() == [1 + 2 + first, 1 + 2 + first, 1 + 2 + third, 1, 1]
    assert first != third


@pytest.mark.parametrize("by", ["absent", "last_items", "price", "price_bin"])
def test_a_cross_with_what_is_not_one_id_a_row_is_refused(by: str) -> None:
    crossed = feature("user_id", pl.Int64(), Hashed(vocabulary="cross", buckets=8, by=(by,)))
    price_bin = feature("price_bin", pl.Float64(), Binned(vocabulary="price_bin", edges=(1.0,)))
    price = feature("price", pl.Float64(), Dense())
    last = feature("last_items", pl.List(pl.String()), Category(vocabulary="item_id", capacity=7, length=3))
    message = rf"'user_id' is crossed with \['{by}'\].*which are \['item_id', 'user_id'\]"
    with pytest.raises(ValueError, match=message):
        Layout.of((crossed, ITEM, last, price, price_bin))


def test_bins_are_closed_below_and_what_is_not_a_number_is_missing() -> None:
    edges = (-1.0, 0.0, 2.5)
    price = feature("price", pl.Float64(), Binned(vocabulary="price", edges=edges))
    values = [-math.inf, -1.5, -1.0, -0.5, 0.0, 2.0, 2.5, math.inf]
    encoder = Encoder(Layout.of((price,)), empty_map())
    found = encoder.encode(pl.DataFrame({"price": [*values, math.nan, None]}))["rows"][:, 0]
    assert found.tolist() == [*(3 + sum(edge <= value for edge in edges) for value in values), 1, 1]
    assert encoder.layout.num_rows == 1 + 2 + 4


def test_learned_bins_are_unknown_before_their_day_and_equally_full_on_it() -> None:
    price = feature("price", pl.Int64(), Binned(vocabulary="price", bins=4))
    table = pl.DataFrame({"price": [*range(40, 0, -1), None]})
    layout = Layout.of((price,))
    before = Encoder(layout, empty_map()).encode(table)["rows"][:, 0]
    assert before.tolist() == [2] * 40 + [1]
    learned = grow(empty_map(), table.lazy(), (price,), DAY)
    after = Encoder(layout, learned).encode(table)["rows"][:, 0]
    assert after.tolist() == [6] * 10 + [5] * 10 + [4] * 10 + [3] * 10 + [1]


QUARTERS = feature("price", pl.Float64(), Binned(vocabulary="price", bins=4))


def prices(*values: float | None) -> pl.LazyFrame:
    return pl.LazyFrame({"price": values}, schema={"price": pl.Float64})


def edges(*values: float | None) -> list[float]:
    return grow(empty_map(), prices(*values), (QUARTERS,), DAY)["edge"].to_list()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(1, 9), [3.0, 5.0, 7.0]),
        ([0.0] * 6 + [1.0, 2.0, 3.0, 4.0], [1.0, 3.0]),
        ([5.0] * 3, []),
        ([None, float("nan"), float("inf"), 1.0, 2.0], [2.0]),
        ([], []),
    ],
)
def test_edges_cut_the_first_day_into_equal_parts_at_values_that_were_seen(
    values: list[float | None], expected: list[float]
) -> None:
    assert edges(*values) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.randoms())
def test_each_edge_is_the_least_value_with_its_share_below_it(values: list[int], chance: Random) -> None:
    expected = set()
    for k in (1, 2, 3):
        expected |= {
            min(
                (v for v in values if 4 * sum(other < v for other in values) >= k * len(values)),
                default=None,
            )
        }
    assert edges(*values) == sorted(expected - {None})
    assert edges(*chance.sample(values, len(values))) == edges(*values)


def test_learned_edges_are_kept_and_a_day_that_cannot_be_cut_leaves_them_to_the_next() -> None:
    first = grow(empty_map(), prices(1.0, 1.0), (QUARTERS,), DAY)
    second = grow(first, prices(1.0, 2.0, 3.0, 4.0), (QUARTERS,), DAY + timedelta(days=1))
    third = grow(second, prices(*range(50, 90)), (QUARTERS,), DAY + timedelta(days=2))
    assert first.is_empty()
    assert second["edge", "row", "count"].rows() == [(2.0, 3, 1), (3.0, 4, 1), (4.0, 5, 1)]
    assert_frame_equal(third, second)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"capacity": 9}, r"'user_id' has capacity 5 and, in feature 'other', 9\. Give both the same"),
        ({"admit": 3}, "has admit 2 and, in feature 'other', 3"),
        ({"expire_days": None}, "has expire_days 2 and, in feature 'other', None"),
    ],
)
def test_features_that_share_a_vocabulary_must_declare_it_alike(
    other: dict[str, object], message: str
) -> None:
    shared: dict[str, object] = asdict(USER.encoding) | other
    with pytest.raises(ValueError, match=message):
        vocabularies((USER, feature("other", pl.Int64(), Category(**shared))))


def test_features_that_share_a_vocabulary_must_encode_alike_and_have_ids_of_one_kind() -> None:
    hashed = feature("other", pl.Int64(), Hashed(vocabulary="user_id", buckets=3))
    with pytest.raises(ValueError, match="has encoding Category and, in feature 'other', Hashed"):
        vocabularies((USER, hashed))
    text = replace(USER, name="other", dtype=pl.String())
    with pytest.raises(ValueError, match="has ids in id_int and, in feature 'other', id_text"):
        vocabularies((USER, text))


@pytest.mark.parametrize("dtype", [pl.Float64(), pl.UInt64(), pl.Boolean(), pl.List(pl.Float32())])
def test_an_id_map_refuses_ids_that_it_could_not_keep_apart(dtype: pl.DataType) -> None:
    with pytest.raises(ValueError, match=r"Feature 'user_id' is .*Cast it in the feature's expression"):
        vocabularies((replace(USER, dtype=dtype),))


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda: Category(vocabulary="v", capacity=2),
            "Capacity of vocabulary 'v' must be at least 3, got 2",
        ),
        (lambda: Category(vocabulary="v", capacity=3, admit=0), "admit of vocabulary 'v' must be at least 1"),
        (lambda: Category(vocabulary="v", capacity=3, expire_days=0), "expire_days of .* at least 1, got 0"),
        (lambda: Category(vocabulary="v", capacity=3, length=-1), "length of .* at least 0, got -1"),
        (lambda: Hashed(vocabulary="v", buckets=0), "'v' needs at least 1 bucket"),
        (lambda: Hashed(vocabulary="v", buckets=1, seed=2**64), r"must lie in 0\.\.2\*\*64 - 1"),
        (lambda: Hashed(vocabulary="v", buckets=1, by=("a",), length=2), "a list cannot be crossed"),
        (lambda: Binned(vocabulary="v"), "needs edges or a number of bins"),
        (lambda: Binned(vocabulary="v", edges=(1.0,), bins=2), "needs edges or a number of bins"),
        (lambda: Binned(vocabulary="v", bins=1), "of at least 2"),
        (lambda: Binned(vocabulary="v", edges=(1.0, 1.0)), "must ascend"),
        (lambda: Binned(vocabulary="v", edges=(float("nan"),)), "must ascend"),
    ],
)
def test_an_encoding_that_cannot_be_is_refused(declare: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare()  # type: ignore[operator]
