"""Which pairs are scored, against nested loops; and that blocks are bounded and never cut a user."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from candidate_rows import joined, joined_block, log_of
from hypothesis import given, settings
from hypothesis import strategies as st

from features.candidates import from_rule
from features.samples import add_context, join_views
from features.scenario import CandidateRule
from features.scenarios.shop import SCENARIO
from features.views.shop import item_popularity, item_profile, user_activity

FOR_DAY = date(2026, 3, 30)
RULE = CandidateRule(user_days=2, item_days=1, items=3)
SHOP = replace(
    SCENARIO,
    candidates=RULE,
    views=(item_profile.VIEW, user_activity.VIEW, item_popularity.VIEW),
    on_demand=(),
)
SNAPSHOTS: dict[str, pl.LazyFrame | None] = {
    "item_profile": pl.LazyFrame(
        {"item_id": ["a", "b"], "category": ["tea", "cups"], "brand_id": [1, 2], "price": [2.5, 3.5]}
    ),
    "user_activity": pl.LazyFrame(
        {
            "user_id": [1, 2],
            "user_impression_count_3d": [10, 20],
            "user_click_per_impression_1d": [0.1, 0.2],
            "user_click_per_impression_3d": [0.3, 0.4],
            "user_conversion_per_click_3d": [0.5, 0.6],
        }
    ),
    "item_popularity": None,
}
Impression = tuple[int, int, int, str]  # user, days before the scored one, minute, surface


def impressions(rows: list[Impression]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [
            (
                f"i{n:03d}",
                user,
                "a",
                FOR_DAY - timedelta(days=back),
                datetime(2026, 3, 30) + timedelta(minutes=minute, days=-back),
                surface,
                n,
            )
            for n, (user, back, minute, surface) in enumerate(rows)
        ],
        schema={
            "impression_id": pl.String,
            "user_id": pl.Int64,
            "item_id": pl.String,
            "day": pl.Date,
            "exposed_at": pl.Datetime("us"),
            "surface": pl.String,
            "position": pl.Int64,
        },
        orient="row",
    )


def clicks(rows: list[tuple[str, int]]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [(item, FOR_DAY - timedelta(days=back)) for item, back in rows],
        schema={"item_id": pl.String, "day": pl.Date},
        orient="row",
    )


@settings(max_examples=15, deadline=None)
@given(
    shown=st.lists(
        st.tuples(
            st.integers(1, 6), st.integers(1, 3), st.integers(0, 2), st.sampled_from(["home", "search"])
        ),
        max_size=15,
    ),
    clicked=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 2)), max_size=15),
)
def test_the_rule_pairs_active_users_with_the_most_clicked_items(
    shown: list[Impression], clicked: list[tuple[str, int]]
) -> None:
    found = joined(from_rule(impressions(shown), clicks(clicked), SHOP, SNAPSHOTS, FOR_DAY))
    latest: dict[int, tuple[datetime, str, str, int]] = {}
    for row in impressions(shown).collect().rows(named=True):
        if row["day"] >= FOR_DAY - timedelta(days=2):
            mine = (row["exposed_at"], row["impression_id"], row["surface"], row["position"])
            latest[row["user_id"]] = max(latest.get(row["user_id"], mine), mine)
    recent = [item for item, back in clicked if back <= 1]
    live = sorted(sorted(set(recent), key=lambda item: (-recent.count(item), item))[:3])
    expected = [(user, item, latest[user][2], latest[user][3]) for user in sorted(latest) for item in live]
    columns = ["user_id", "item_id", "surface", "position"]
    assert found.select(columns).rows() == expected
    plain = join_views(add_context(found.select(columns).lazy(), SHOP), SHOP.views, SNAPSHOTS).collect()
    assert found.select(plain.columns).equals(plain)


def test_a_rule_without_a_number_takes_every_item_that_was_clicked() -> None:
    everything = replace(SHOP, candidates=replace(RULE, items=None))
    clicked = clicks([("c", 1), ("a", 1), ("b", 1), ("b", 1), ("d", 1), ("e", 2)])
    found = from_rule(impressions([(1, 1, 0, "home")]), clicked, everything, SNAPSHOTS, FOR_DAY)
    assert found.items["item_id"].to_list() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("block_rows", [1, 4, 5, 1_000])
def test_a_candidates_log_comes_back_row_by_row_with_its_features(block_rows: int, tmp_path: Path) -> None:
    pairs = [(f"r{user}{request}", user, item) for user in (3, 1, 2) for request in (1, 2) for item in "ba"]
    requested = pl.LazyFrame(
        [(request, user, item, "home", 1) for request, user, item in pairs],
        schema=["request_id", "user_id", "item_id", "surface", "position"],
        orient="row",
    )
    log = log_of(requested, SHOP, SNAPSHOTS, tmp_path, block_rows)
    blocks = list(log.blocks)
    together = pl.concat(joined_block(block, log.items) for block in blocks)
    assert together.select("user_id", "request_id", "item_id").rows() == sorted(
        (user, request, item) for request, user, item in pairs
    )
    users = [set(block.pairs["user_id"]) for block in blocks]
    assert sum(map(len, users)) == len(set().union(*users)) == 3
    assert len(blocks) == (2 if block_rows == 1_000 else 3)  # the last user waits for others of its own
    prices = {"a": 2.5, "b": 3.5}
    assert together["price"].to_list() == [prices[item] for item in together["item_id"]]
    assert set(together.filter(pl.col("user_id") == 3)["user_impression_count_3d"]) == {0}
    assert set(together["item_click_per_impression_3d"]) == {0.25}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-1, 6)),
            st.one_of(st.none(), st.sampled_from(["", "r", "R", "\u00e9", "r\u00e9"])),
            st.sampled_from(["a", "b", "c", "\u00c4"]),
            st.integers(0, 3),
        ),
        max_size=25,
    ),
    st.integers(1, 30),
)
def test_a_candidates_log_is_a_sort_and_a_join_of_all_of_it(
    rows: list[tuple[int | None, str | None, str, int]], block_rows: int
) -> None:
    """Against Polars, in one piece; nulls come first, texts in the order of their bytes, no row is lost."""
    schema = {"user_id": pl.Int64, "request_id": pl.String, "item_id": pl.String, "position": pl.Int32}
    keys = ["user_id", "request_id", "item_id"]
    log = pl.LazyFrame(rows, schema=schema, orient="row").with_columns(surface=pl.lit("home"))
    told = log.with_columns(candidate_id=pl.int_range(pl.len()))  # which no feature can read
    with TemporaryDirectory() as folder:
        found = log_of(told, SHOP, SNAPSHOTS, Path(folder), block_rows)
        blocks = list(found.blocks)
    plain = join_views(add_context(log.sort(keys), SHOP), SHOP.views, SNAPSHOTS).collect()
    if not rows:
        assert (blocks, found.items.height) == ([], 0)
        return
    together = pl.concat(joined_block(block, found.items) for block in blocks)
    assert "candidate_id" not in together.columns
    assert together.select(keys).equals(plain.select(keys), null_equal=True)
    order = [*keys, "position"]  # of equal pairs either may come first
    assert together.select(plain.columns).sort(order).equals(plain.sort(order), null_equal=True)
    members = [user for block in blocks for user in block.pairs["user_id"].unique()]
    assert len(members) == len(set(members))
    most = max(together["user_id"].value_counts()["count"])
    assert all(block.pairs.height < block_rows + most for block in blocks)
