"""Maps of ids over many days, against dictionaries that are kept by hand."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import count
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.encodings import Category, Dense, Encoding, Hashed
from features.errors import BadWarehouse
from features.id_maps import MAP_SCHEMA, empty_map, grow
from features.view import Feature

DAY = date(2026, 3, 27)
BIG = 2**53  # neighbours from here on are equal as doubles


def feature(name: str, dtype: pl.DataType, encoding: Encoding) -> Feature:
    return Feature(name=name, expr=pl.col(name), dtype=dtype, encoding=encoding, description="For a test.")


def ids(name: str, dtype: pl.DataType, **encoding: object) -> Feature:
    return feature(name, dtype, Category(**({"vocabulary": name, "capacity": 5} | encoding)))  # type: ignore[arg-type]


USER = ids("user_id", pl.Int64(), admit=2, expire_days=2)
TAG = ids("tag", pl.String(), capacity=4)
FEATURES = (USER, TAG)
SCHEMA = {one.name: one.dtype for one in FEATURES}
Row = tuple[int | None, str | None]


def frame(rows: list[Row]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=SCHEMA, orient="row")


def users(*seen: int | None) -> pl.LazyFrame:
    return frame([(user, None) for user in seen])


def owners(id_map: pl.DataFrame, vocabulary: str = "user_id") -> dict[object, int]:
    """Which id owns which row."""
    found = id_map.filter(pl.col("row").is_not_null(), pl.col("vocabulary") == vocabulary)
    return {
        number if text is None else text: row
        for number, text, row in found["id_int", "id_text", "row"].rows()
    }


class ByHand:
    """One vocabulary as a dictionary from id to its entry."""

    def __init__(self, encoding: Category) -> None:
        self.encoding = encoding
        self.entries: dict[object, dict[str, object]] = {}

    def grow(self, seen: list[object], day: date) -> None:
        for one in seen:
            if one is None:
                continue
            entry = self.entries.setdefault(
                one, {"row": None, "row_since": None, "count": 0, "first_seen": day}
            )
            entry["count"] += 1  # type: ignore[operator]
            entry["last_seen"] = day
        if self.encoding.expire_days is not None:
            for one in list(self.entries):
                days_without = (day - self.entries[one]["last_seen"]).days  # type: ignore[operator]
                if days_without >= self.encoding.expire_days:
                    del self.entries[one]
        for one in sorted(self.entries, key=lambda key: key.encode() if isinstance(key, str) else key):
            entry = self.entries[one]
            taken = {other["row"] for other in self.entries.values()}
            lowest = next(row for row in count(2) if row not in taken)
            waits = entry["row"] is None and entry["count"] >= self.encoding.admit  # type: ignore[operator]
            if waits and lowest < self.encoding.capacity:
                entry["row"], entry["row_since"] = lowest, day


USERS = st.none() | st.sampled_from([BIG + n for n in range(7)])
TAGS = st.none() | st.sampled_from(["a", "ä", "10", "9"])
DAYS = st.lists(st.lists(st.tuples(USERS, TAGS), max_size=8), min_size=1, max_size=10)


@settings(max_examples=40, deadline=None)
@given(days=DAYS, gaps=st.lists(st.integers(1, 3), min_size=10, max_size=10), chance=st.randoms())
def test_growth_admission_expiry_and_reuse_are_those_of_a_dictionary(
    days: list[list[Row]], gaps: list[int], chance: Random
) -> None:
    by_hand = {one.name: ByHand(one.encoding) for one in FEATURES}  # type: ignore[arg-type]
    found, day = empty_map(), DAY
    for rows, gap in zip(days, gaps, strict=False):
        before, kept = found, found.clone()
        found = grow(before, frame(rows), FEATURES, day)
        assert_frame_equal(before, kept)
        shuffled = chance.sample(rows, len(rows))
        assert_frame_equal(grow(before, frame(shuffled), FEATURES, day), found)
        for place, vocabulary in enumerate(("user_id", "tag")):
            by_hand[vocabulary].grow([row[place] for row in rows], day)
            told = {
                entry["id_int"] if entry["id_text"] is None else entry["id_text"]: {
                    name: entry[name] for name in ("row", "row_since", "count", "first_seen", "last_seen")
                }
                for entry in found.filter(pl.col("vocabulary") == vocabulary).rows(named=True)
            }
            assert told == by_hand[vocabulary].entries
            rows_in_use = list(owners(found, vocabulary).values())
            assert len(set(rows_in_use)) == len(rows_in_use)
            old = owners(before, vocabulary)
            assert all(row == old.get(one, row) for one, row in owners(found, vocabulary).items())
        day += timedelta(days=gap)


def test_an_id_keeps_its_row_until_it_was_not_seen_for_as_many_days_as_declared() -> None:
    maps = [grow(empty_map(), users(1, 1, 2, 2), FEATURES, DAY)]
    for number in (1, 2):
        maps.append(grow(maps[-1], users(2), FEATURES, DAY + timedelta(days=number)))
    assert [owners(one) for one in maps] == [{1: 2, 2: 3}, {1: 2, 2: 3}, {2: 3}]


def test_a_freed_row_goes_to_the_lowest_waiting_id_on_the_day_it_is_freed() -> None:
    full = grow(empty_map(), users(*[1, 2, 3] * 2), FEATURES, DAY)
    waiting = grow(full, users(1, 3, 5, 5, 4, 4), FEATURES, DAY + timedelta(days=1))
    assert owners(waiting) == {1: 2, 2: 3, 3: 4}
    reused = grow(waiting, users(1, 3), FEATURES, DAY + timedelta(days=2))
    assert owners(reused) == {1: 2, 4: 3, 3: 4}
    since = dict(reused.filter(pl.col("row").is_not_null())["id_int", "row_since"].rows())
    assert since == {1: DAY, 3: DAY, 4: DAY + timedelta(days=2)}


def test_a_forgotten_id_that_returns_is_counted_from_nothing() -> None:
    known = grow(empty_map(), users(1, 1), FEATURES, DAY)
    gone = grow(known, users(), FEATURES, DAY + timedelta(days=2))
    back = grow(gone, users(1), FEATURES, DAY + timedelta(days=3))
    assert gone.is_empty()
    assert back["id_int", "row", "count", "first_seen"].rows() == [(1, None, 1, DAY + timedelta(days=3))]


def test_an_id_that_is_back_on_the_first_day_after_a_gap_keeps_its_row() -> None:
    known = grow(empty_map(), users(1, 1), FEATURES, DAY)
    after = grow(known, users(1), FEATURES, DAY + timedelta(days=7))
    assert after["row", "row_since", "count"].rows() == [(2, DAY, 3)]


def test_an_id_that_never_got_a_row_is_forgotten_too() -> None:
    once = grow(empty_map(), users(1), FEATURES, DAY)
    assert grow(once, users(2), FEATURES, DAY + timedelta(days=2))["id_int"].to_list() == [2]


def test_ids_without_expiry_stay_for_good() -> None:
    rows = frame([(None, "a")])
    known = grow(empty_map(), rows, FEATURES, DAY)
    later = grow(known, users(1), FEATURES, DAY + timedelta(days=10_000))
    assert owners(later, "tag") == {"a": 2}


def test_ids_that_are_equal_as_doubles_have_rows_of_their_own_beside_nulls() -> None:
    seen = [2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1, -(2**63)]
    wide = ids("user_id", pl.Int64(), capacity=9)
    grown = grow(empty_map(), users(*seen, None), (wide,), DAY)
    assert owners(grown) == {-(2**63): 2, 2**53: 3, 2**53 + 1: 4, 2**63 - 2: 5, 2**63 - 1: 6}


@pytest.mark.parametrize("dtype", [pl.Int8(), pl.UInt8(), pl.Int32(), pl.UInt32()])
def test_narrow_integers_are_the_ids_that_wide_ones_are(dtype: pl.DataType) -> None:
    narrow = ids("user_id", dtype)
    rows = pl.LazyFrame({"user_id": [3, None, 1]}, schema={"user_id": dtype})
    grown = grow(grow(empty_map(), rows, (narrow,), DAY), rows, (narrow,), DAY)
    assert owners(grown) == {1: 2, 3: 3}
    assert grown.schema == pl.Schema(MAP_SCHEMA)


def test_a_capacity_below_a_row_in_use_is_refused() -> None:
    grown = grow(empty_map(), users(1, 1, 2, 2), FEATURES, DAY)
    smaller = ids("user_id", pl.Int64(), capacity=3)
    with pytest.raises(BadWarehouse, match=r"id map of user_id: row 3 is in use, the vocabulary has 3 rows"):
        grow(grown, users(1), (smaller,), DAY)


def test_scenarios_without_an_id_map_have_an_empty_one() -> None:
    hashed = feature("user_id", pl.Int64(), Hashed(vocabulary="user_id", buckets=8))
    price = feature("price", pl.Float64(), Dense())
    assert_frame_equal(grow(empty_map(), users(1), (hashed, price), DAY), empty_map())


def test_a_list_alone_counts_its_values_and_beside_a_single_value_does_not() -> None:
    lists = ids("tags", pl.List(pl.String()), vocabulary="tag", capacity=4, length=1)
    rows = pl.LazyFrame(
        {"tags": [["a", "b", "a"], None, [], [None]], "tag": ["c", None, None, "c"]},
        schema={"tags": pl.List(pl.String()), "tag": pl.String()},
    )
    alone = grow(empty_map(), rows, (lists,), DAY)
    assert alone["id_text", "count"].rows() == [("a", 2), ("b", 1)]
    beside = grow(empty_map(), rows, (lists, TAG), DAY)
    assert beside["id_text", "count"].rows() == [("c", 2)]
