"""Ids to rows and quantities to floats, against plain dictionaries and closed forms."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.encode import CLIP, Encoder, Layout
from features.encodings import Category, Dense
from features.errors import BadWarehouse
from features.id_maps import MAP_SCHEMA, empty_map, grow
from features.view import Feature

DAY = date(2026, 1, 5)
BIG = 2**53  # neighbours from here on are equal as doubles


def category(name: str, dtype: pl.DataType, **encoding: object) -> Feature:
    settings_ = {"vocabulary": name, "capacity": 8} | encoding
    return Feature(
        name=name, expr=pl.col(name), dtype=dtype, encoding=Category(**settings_), description="For a test."
    )


def quantity(name: str, scale: str, *, flag: bool = False) -> Feature:
    return Feature(
        name=name,
        expr=pl.col(name),
        dtype=pl.Float64(),
        encoding=Dense(scale=scale, flag=flag),  # type: ignore[arg-type]
        description="For a test.",
    )


USER = category("user_id", pl.Int64(), capacity=6, admit=2)
ITEM = category("item_id", pl.String(), capacity=7, admit=1)
LAST = category("last_items", pl.List(pl.String()), vocabulary="item_id", capacity=7, admit=1, length=3)
TAGS = category("tags", pl.List(pl.Int64()), capacity=5, length=2)
FEATURES = (USER, LAST, ITEM, TAGS)
LAYOUT = Layout.of(FEATURES)
SCHEMA = {feature.name: feature.dtype for feature in FEATURES}
Row = tuple[int | None, list[str | None] | None, str | None, list[int | None] | None]


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_vocabularies_own_ranges_that_do_not_overlap_and_row_0_is_nobodys() -> None:
    assert LAYOUT.offsets == {"user_id": 1, "item_id": 7, "tags": 14}
    assert LAYOUT.num_rows == 1 + 6 + 7 + 5
    assert [f.name for f in LAYOUT.singles] == ["user_id", "item_id"]
    assert LAYOUT.bag_lengths == (3, 2)


def test_features_that_share_a_vocabulary_must_agree_on_its_capacity() -> None:
    other = category("last_items", pl.List(pl.String()), vocabulary="item_id", capacity=9, length=3)
    with pytest.raises(ValueError, match=r"'item_id' has capacity 7 and, in feature 'last_items', 9"):
        Layout.of((ITEM, other))


USERS = st.none() | st.sampled_from([BIG + n for n in range(6)])
ITEMS = st.none() | st.sampled_from(["a", "b", "ä", "10", "9", "A", "zz"])
TAG_LISTS = st.none() | st.lists(st.none() | st.integers(0, 4), max_size=3)
ROWS = st.lists(st.tuples(USERS, st.none() | st.lists(ITEMS, max_size=4), ITEMS, TAG_LISTS), max_size=12)


class Maps:
    """The id maps, kept as dictionaries."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[object]] = {name: Counter() for name in LAYOUT.offsets}
        self.rows: dict[str, dict[object, int]] = {name: {} for name in LAYOUT.offsets}
        self.seen: dict[tuple[str, object], tuple[date, date]] = {}

    def grow(self, rows: list[Row], day: date) -> None:
        # Items are counted where they were shown, not where they are history; tags have only their list.
        today: dict[str, list[object]] = {
            "user_id": [user for user, *_ in rows],
            "item_id": [item for _, _, item, _ in rows],
            "tags": [tag for *_, tags in rows for tag in tags or []],
        }
        for name, capacity, admit in (("user_id", 6, 2), ("item_id", 7, 1), ("tags", 5, 1)):
            for one in today[name]:
                if one is not None:
                    self.counts[name][one] += 1
                    self.seen[name, one] = (self.seen.get((name, one), (day, day))[0], day)
            for one in sorted(
                self.counts[name], key=lambda key: key.encode() if isinstance(key, str) else key
            ):
                full = len(self.rows[name]) + 2 >= capacity
                if self.counts[name][one] >= admit and one not in self.rows[name] and not full:
                    self.rows[name][one] = len(self.rows[name]) + 2

    def row(self, name: str, one: object, missing: int | None = None) -> int:
        if one is None:
            return LAYOUT.offsets[name] if missing is None else missing
        return LAYOUT.offsets[name] + self.rows[name].get(one, 1)


@settings(max_examples=20, deadline=None)
@given(days=st.lists(ROWS, min_size=1, max_size=4), asked=ROWS, chance=st.randoms(use_true_random=False))
def test_maps_grow_and_encode_as_dictionaries_do(
    days: list[list[Row]], asked: list[Row], chance: Random
) -> None:
    maps, found = Maps(), empty_map()
    for number, rows in enumerate(days):
        day = DAY + timedelta(days=number)
        before = found
        found = grow(before, frame(rows).lazy(), FEATURES, day)
        maps.grow(rows, day)
        shuffled = chance.sample(rows, len(rows))
        assert_frame_equal(grow(before, frame(shuffled).lazy(), FEATURES, day), found)
        # A row, once given, stays with its id.
        kept = before.filter(pl.col("row").is_not_null()).join(
            found, on=["vocabulary", "id_int", "id_text", "row"], how="anti", nulls_equal=True
        )
        assert kept.is_empty()
    told = {
        (row["vocabulary"], row["id_int"] if row["id_text"] is None else row["id_text"]): (
            row["row"], row["count"], row["first_seen"], row["last_seen"],
        )
        for row in found.rows(named=True)
    }  # fmt: skip
    assert told == {
        (name, one): (maps.rows[name].get(one), count, *maps.seen[name, one])
        for name, counts in maps.counts.items()
        for one, count in counts.items()
    }
    arrays = Encoder(LAYOUT, found).encode(frame(asked))
    assert arrays["rows"].tolist() == [
        [maps.row("user_id", user), maps.row("item_id", item)] for user, _, item, _ in asked
    ]
    padded = [
        [(last or [])[n] if n < len(last or []) else None for n in range(3)]
        + [(tags or [])[n] if n < len(tags or []) else None for n in range(2)]
        for _, last, _, tags in asked
    ]
    assert arrays["bag_rows"].tolist() == [
        [maps.row("item_id" if n < 3 else "tags", one, missing=0) for n, one in enumerate(row)]
        for row in padded
    ]
    assert arrays["rows"].dtype == arrays["bag_rows"].dtype == np.int64
    encoder = Encoder(LAYOUT, found)
    held = encoder.encode(frame(asked), dtype=encoder.held_dtype)
    assert held["rows"].dtype == held["bag_rows"].dtype == np.int32
    for name, array in held.items():
        np.testing.assert_array_equal(array, arrays[name])
    assert arrays["rows"].max(initial=0) < LAYOUT.num_rows
    for rows_B, (first, count) in zip(arrays["rows"].T, LAYOUT.ranges, strict=True):
        assert ((first <= rows_B) & (rows_B < first + count)).all()


def test_an_id_is_unknown_until_it_was_seen_often_enough() -> None:
    rows = frame([(1, None, "a", None)])
    once = grow(empty_map(), rows.lazy(), FEATURES, DAY)
    twice = grow(once, rows.lazy(), FEATURES, DAY)
    assert Encoder(LAYOUT, once).encode(rows)["rows"].tolist() == [[1 + 1, 7 + 2]]
    assert Encoder(LAYOUT, twice).encode(rows)["rows"].tolist() == [[1 + 2, 7 + 2]]


def test_ids_beyond_a_full_vocabulary_stay_unknown_for_good() -> None:
    rows = frame([(None, None, letter, None) for letter in "abcdefg"])
    full = grow(grow(empty_map(), rows.lazy(), FEATURES, DAY), rows.lazy(), FEATURES, DAY)
    assert Encoder(LAYOUT, full).encode(rows)["rows"][:, 1].tolist() == [9, 10, 11, 12, 13, 8, 8]


def test_before_the_first_day_every_id_is_unknown_and_null_is_missing() -> None:
    arrays = Encoder(LAYOUT, empty_map()).encode(frame([(5, ["a"], "a", [1]), (None, None, None, None)]))
    assert arrays["rows"].tolist() == [[2, 8], [1, 7]]
    assert arrays["bag_rows"].tolist() == [[8, 0, 0, 15, 0], [0, 0, 0, 0, 0]]


def test_a_vocabulary_without_an_admitted_id_is_unknown_throughout() -> None:
    once = grow(empty_map(), frame([(BIG, None, None, None)]).lazy(), FEATURES, DAY)
    assert once.schema == pl.Schema(MAP_SCHEMA)
    assert once.select("vocabulary", "id_int", "row", "count").rows() == [("user_id", BIG, None, 1)]
    assert Encoder(LAYOUT, once).encode(frame([(BIG, None, None, None)]))["rows"].tolist() == [[2, 7]]


def test_which_users_and_items_the_model_does_not_know() -> None:
    rows = frame([(1, None, "a", None), (1, None, "a", None)])
    known = Encoder(LAYOUT, grow(empty_map(), rows.lazy(), FEATURES, DAY))
    asked = known.encode(frame([(1, None, "b", None), (2, None, "a", None), (None, None, None, None)]))
    unknown = known.unknown_keys(asked)
    assert {name: mask.tolist() for name, mask in unknown.items()} == {
        "user": [False, True, False],
        "item": [True, False, False],
    }


def test_quantities_follow_their_closed_forms() -> None:
    features = (
        quantity("plain", "identity"),
        quantity("number", "log1p", flag=True),
        quantity("share", "logit"),
        quantity("size", "identity", flag=True),
    )
    layout = Layout.of(features)
    rows = [(2.5, 0.0, 0.5, 7.0), (-1.0, 99.0, 0.2, None), (None, None, None, 0.0), (0.0, 1e9, 0.999, -3.0)]
    table = pl.DataFrame(rows, schema={f.name: pl.Float64 for f in features}, orient="row")
    expected = [
        [
            plain or 0.0,
            0.0 if number is None else min(math.log1p(number), CLIP),
            float(number is None),
            0.0 if share is None else math.log(share / (1 - share)),
            size or 0.0,
            float(size is None),
        ]
        for plain, number, share, size in rows
    ]
    assert layout.dense_columns == ("plain", "number", "number_missing", "share", "size", "size_missing")
    dense = Encoder(layout, empty_map()).encode(table)["dense"]
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense, np.array(expected), rtol=1e-6)


def test_no_row_and_no_feature_of_a_kind_give_empty_arrays() -> None:
    arrays = Encoder(LAYOUT, empty_map()).encode(frame([]))
    assert {name: array.shape for name, array in arrays.items()} == {
        "rows": (0, 2),
        "bag_rows": (0, 5),
        "dense": (0, 0),
    }


def test_F34_quantities_are_measured_from_their_centre_in_spreads_and_cut_off_beyond_eight() -> None:
    feature = replace(quantity("number", "log1p"), encoding=Dense(scale="log1p", center=2.0, spread=0.5))
    table = pl.DataFrame({"number": [None, math.expm1(2.0), math.expm1(2.5), math.expm1(1.0), 1e12]})
    dense = Encoder(Layout.of((feature,)), empty_map()).encode(table)["dense"]
    np.testing.assert_allclose(dense[:, 0], [0.0, 0.0, 1.0, -2.0, 8.0], atol=1e-6)


def test_a_spread_must_be_positive() -> None:
    with pytest.raises(ValueError, match="Spread"):
        Dense(spread=0.0)


def test_F37_ids_that_are_equal_as_doubles_are_encoded_apart_beside_nulls() -> None:
    rows = frame([(one, None, None, None) for one in (BIG, BIG + 1, None, 2**63 - 1, 2**63 - 2)])
    user = replace(USER, encoding=Category(vocabulary="user_id", capacity=8))
    grown = grow(empty_map(), rows.lazy(), (user,), DAY)
    assert Encoder(Layout.of((user,)), grown).encode(rows)["rows"][:, 0].tolist() == [3, 4, 1, 6, 5]


def test_rows_given_after_a_day_are_those_of_ids_that_were_admitted_later() -> None:
    """Users begin at row 1, items at 7, tags at 14; a vocabulary's first two rows belong to no id."""
    maps = grow(empty_map(), frame([(1, None, "a", None)] * 2).lazy(), FEATURES, DAY)
    maps = grow(maps, frame([(2, None, "b", [9])] * 2).lazy(), FEATURES, DAY + timedelta(days=1))
    encoder = Encoder(LAYOUT, maps)
    assert encoder.rows_given_after(DAY - timedelta(days=1)).tolist() == [3, 4, 9, 10, 16]
    assert encoder.rows_given_after(DAY).tolist() == [4, 10, 16]
    assert encoder.rows_given_after(DAY + timedelta(days=1)).tolist() == []


def test_a_map_with_a_row_beyond_its_vocabulary_is_refused() -> None:
    grown = grow(empty_map(), frame([(n, None, None, None) for n in (1, 2)] * 2).lazy(), FEATURES, DAY)
    smaller = replace(USER, encoding=Category(vocabulary="user_id", capacity=3, admit=2))
    with pytest.raises(BadWarehouse, match="id map of user_id: row 3 is in use, the vocabulary has 3 rows"):
        Encoder(Layout.of((smaller,)), grown)
