"""Candidates through a line: ranks and the best of a user, against a sort of all joined rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from candidate_rows import joined, log_of
from hypothesis import given
from hypothesis import strategies as st

from features.candidate_log import Listed
from features.candidates import Product
from features.encode import Encoder, Layout
from features.encodings import Dense
from features.id_maps import MAP_SCHEMA, empty_map
from features.scenarios.shop import SCENARIO
from features.sides import Division
from features.view import Feature
from flows.recipes import shop
from flows.stages import pairs
from flows.stages.pairs import listed_scores, product_scores
from models.balancing.static import Static
from models.batch import InputSpec
from models.entire_space.esmm import ESMM
from models.line import Line
from models.ple import PLE
from models.score import score_arrays

#: Without views; one feature on demand is of both sides, one of the item.
SHOP = replace(
    SCENARIO,
    views=(),
    on_demand=tuple(
        Feature(name=name, expr=expr, dtype=pl.Int64(), encoding=Dense(), description="made up")
        for name, expr in (
            ("length", pl.col("item_id").str.len_bytes()),
            ("together", (pl.col("user_id") + pl.col("length")) % 3),
        )
    ),
)
USERS, ITEMS = list(range(1, 8)), ["a", "aa", "b", "bb", "c", "cc", "d"]
SCORES = ["pctr", "pcvr", "pctcvr"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    known = [("user_id", "id_int", USERS[:-1]), ("item_id", "id_text", ITEMS[:-1])]
    maps = [
        pl.DataFrame({column: ids, "row": np.arange(2, 2 + len(ids), dtype=np.int32)}).with_columns(
            pl.lit(vocabulary).alias("vocabulary"), pl.lit(date(2026, 1, 1)).alias("row_since")
        )
        for vocabulary, column, ids in known
    ]
    id_map = pl.concat([empty_map(), *maps], how="diagonal").select(MAP_SCHEMA.keys())
    return Encoder(Layout.of(SHOP.features), id_map)


@pytest.fixture(scope="module")
def line(encoder: Encoder) -> Line:
    layout = encoder.layout
    spec = InputSpec(layout.num_rows, len(layout.singles), layout.bag_lengths, len(layout.dense_columns))
    made = Line.fresh(
        spec,
        SHOP.funnel,
        architecture=partial(PLE, levels=((16,),), layers=(8,)),
        method=ESMM(),
        balancer=Static,
        dim=4,
        dense_rate=1e-3,
        embedding_rate=1e-3,
        averaging=0.9,
        seed=1,
    )
    made.embedding.weight_RD[1:] *= 100.0
    # two items that nobody can tell apart: only their ids order them
    offset = layout.offsets["item_id"] + 2
    made.embedding.weight_RD[offset + ITEMS.index("bb")] = made.embedding.weight_RD[
        offset + ITEMS.index("cc")
    ]
    return made


def product(users: int = len(USERS), items: int = len(ITEMS)) -> Product:
    division = Division.of(SHOP, user=["user_id", "surface", "position"], item=["item_id"])
    of_users = {"user_id": USERS[:users], "surface": ["home"] * users, "position": list(range(users))}
    right = division.complete("item", pl.LazyFrame({"item_id": ITEMS[:items]}), {}).collect()
    return Product(division, {}, pl.DataFrame(of_users), right)


def listed(folder: Path, block_rows: int = 10) -> Listed:
    rng = np.random.default_rng(0)
    rows = [
        (user, f"r{request}", item, "home", int(rng.integers(1, 9)))
        for user in USERS[1:]
        for request in range(rng.integers(1, 3))
        for item in rng.permutation(ITEMS)[: rng.integers(1, 8)]
    ]
    names = ["user_id", "request_id", "item_id", "surface", "position"]
    return log_of(pl.LazyFrame(rows, schema=names, orient="row"), SHOP, {}, folder, block_rows)


def expected(line: Line, encoder: Encoder, rows: pl.DataFrame) -> pl.DataFrame:
    """All joined rows through the plain network, sorted and counted."""
    arrays = encoder.encode(rows)
    scored = rows.with_columns(pl.Series(n, values) for n, values in score_arrays(line, arrays).items())
    if "request_id" not in rows.columns:
        scored = scored.with_columns(pl.lit(None, dtype=pl.String()).alias("request_id"))
    keys = ["user_id", "request_id"]
    ranked = scored.sort(*keys, "pctcvr", "item_id", descending=[False, False, True, False])
    return ranked.with_columns(user_rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(keys))


def assert_same(found: pl.DataFrame, rows: pl.DataFrame) -> None:
    keys = ["user_id", "request_id", "item_id", "user_rank"]
    assert found.select(keys).rows() == rows.select(keys).rows()
    np.testing.assert_allclose(found.select(SCORES), rows.select(SCORES), rtol=0, atol=1e-5)


@pytest.mark.parametrize("top", [None, 1, 3, 7, 9])
@pytest.mark.parametrize(("users", "items"), [(7, 7), (1, 7), (7, 1), (1, 1)])
def test_every_user_meets_every_item_in_the_order_of_a_full_sort(
    line: Line, encoder: Encoder, users: int, items: int, top: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "BLOCK", 15)  # two users of seven items
    monkeypatch.setattr(pairs, "READ", 5)
    whole = product(users, items)
    found = pl.concat(product_scores(line, encoder, whole, top))
    ranked = expected(line, encoder, joined(whole))
    assert_same(found, ranked if top is None else ranked.filter(pl.col("user_rank") <= top))
    assert found.filter("unknown_user")["user_id"].unique().to_list() == USERS[6:users]
    assert found.filter(pl.col("item_id") == "d")["unknown_item"].all()
    assert ranked["pctcvr"].n_unique() >= min(2, users * items)


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize("block_rows", [1, 10, 1000])
def test_listed_pairs_are_ranked_by_request(
    line: Line, encoder: Encoder, top: int | None, block_rows: int, tmp_path: Path
) -> None:
    found = pl.concat(listed_scores(line, encoder, listed(tmp_path, block_rows), top))
    ranked = expected(line, encoder, joined(listed(tmp_path)))
    assert_same(found, ranked if top is None else ranked.filter(pl.col("user_rank") <= top))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-2, 2)),
            st.one_of(st.none(), st.sampled_from("ab")),
            st.sampled_from([0.0, 1e-30, 0.25, 0.5, 1.0]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_pairs_are_ranked_within_their_request_and_equal_scores_stay_in_order(
    rows: list[tuple[int | None, str | None, float]],
) -> None:
    """Against a sort of the rows; what has no user or no request is a request of its own."""
    schema = {"user_id": pl.Int64, "request_id": pl.String, "score": pl.Float32}
    table = pl.DataFrame(rows, schema=schema, orient="row").sort("user_id", "request_id").with_row_index()
    place_B, rank_B = pairs._ranked(table, table["score"].to_numpy())
    expected = table.sort(
        "user_id", "request_id", "score", "index", descending=[False, False, True, False]
    ).with_columns(rank=pl.int_range(1, pl.len() + 1).over("user_id", "request_id"))
    assert place_B.tolist() == expected["index"].to_list()
    assert rank_B.tolist() == expected["rank"].to_list()
    assert rank_B.dtype == np.int32


@pytest.mark.parametrize(("users", "items"), [(0, 3), (3, 0)])
def test_nobody_or_nothing_gives_no_scores(line: Line, encoder: Encoder, users: int, items: int) -> None:
    assert list(product_scores(line, encoder, product(users, items), 2)) == []


def test_a_log_without_a_row_gives_no_scores(line: Line, encoder: Encoder, tmp_path: Path) -> None:
    names = {"user_id": pl.Int64, "request_id": pl.String, "item_id": pl.String, "surface": pl.String}
    nothing = pl.LazyFrame(schema=names | {"position": pl.Int64})
    assert list(listed_scores(line, encoder, log_of(nothing, SHOP, {}, tmp_path, 10), 2)) == []


def test_how_many_are_published_is_no_part_of_the_model() -> None:
    assert replace(shop.ple(), top=5).settings() == shop.ple().settings()
