"""Pairs, grids and the best of a user against the joined rows, one by one through the plain network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import blocks
from models import pairs as module
from models.architecture import Architecture
from models.interaction.base import Interaction
from models.interaction.concatenate import Concatenate
from models.interaction.factorization import Factorization
from models.line import Line
from models.mmoe import MMoE
from models.pairs import Arrays, Pairs, Share, Shares
from models.ple import PLE
from models.score import score_arrays
from models.shared_bottom import SharedBottom
from models.split import Split
from models.top import Top
from models.towers import Towers

#: Of three fields, two bags (4 and 2 long) and two quantities; nothing stands in the order of the sides.
SHARES = Shares(Share((2,), (0,), (1,)), Share((0,), (1,)), Share((1,), (), (0,)))
NO_PAIRS = Shares(Share((2, 1), (0,), (1,)), Share((0,), (1,), (0,)))
#: Its first level has a second layer, which its networks that read pairs then have, too.
DEEP_PLE = partial(PLE, levels=((8, 4), (4,)))
CLOSE = {"rtol": 0.0, "atol": 1e-5}


def arrays(shares: Shares, side: str, rows: int, seed: int) -> dict[str, np.ndarray]:
    """Random encoded rows of one side."""
    rng = np.random.default_rng([seed, len(side)])
    share: Share = getattr(shares, side)
    bags = rng.integers(0, 50, (rows, sum((4, 2)[bag] for bag in share.bags)))
    bags[rng.random(bags.shape) < 0.4] = 0
    return {
        "rows": rng.integers(1, 50, (rows, len(share.fields))),
        "bag_rows": bags,
        "dense": rng.standard_normal((rows, len(share.dense))).astype(np.float32),
    }


def joined(shares: Shares, user: Arrays, item: Arrays, pair: Arrays | None) -> dict[str, np.ndarray]:
    """The rows as the plain network reads them, from sides that have a row for every pair."""
    count = len(user["rows"])
    whole = {
        "rows": np.empty((count, 3), dtype=np.int64),
        "bag_rows": np.empty((count, 6), dtype=np.int64),
        "dense": np.empty((count, 2), dtype=np.float32),
    }
    for share, own in ((shares.user, user), (shares.item, item), (shares.pair, pair)):
        if own is None:
            continue
        whole["rows"][:, share.fields] = own["rows"]
        whole["dense"][:, share.dense] = own["dense"]
        first = 0
        for bag in share.bags:
            length = (4, 2)[bag]
            whole["bag_rows"][:, 4 * bag : 4 * bag + length] = own["bag_rows"][:, first : first + length]
            first += length
    return whole


def taken(side: Arrays, places: np.ndarray) -> dict[str, np.ndarray]:
    return {name: array[places] for name, array in side.items()}


def plain(line: Line, shares: Shares, users: Arrays, items: Arrays, pair: Arrays | None) -> dict[str, Any]:
    """Every pair of the users and items, user by user, (U, I)."""
    u, i = len(users["rows"]), len(items["rows"])
    user_B, item_B = np.repeat(np.arange(u), i), np.tile(np.arange(i), u)
    rows = joined(shares, taken(users, user_B), taken(items, item_B), pair)
    return {name: score.reshape(u, i) for name, score in score_arrays(line, rows).items()}


def stirred(line: Line) -> Line:
    """Every weight moved, so that no zero hides a part."""
    generator = torch.Generator().manual_seed(1)
    line.embedding.weight_RD[1:].normal_(0, 0.5, generator=generator)
    with torch.no_grad():
        for parameter in line.network.parameters():
            parameter += torch.empty_like(parameter).normal_(0, 0.05, generator=generator)
    return line


def crossed_from(pair: Arrays, num_items: int) -> Callable[[range, range], Arrays]:
    def crossed(users: range, items: range) -> Arrays:
        places = (np.array(users)[:, None] * num_items + np.array(items)).ravel()
        return taken(pair, places)

    return crossed


def test_scores_of_pairs_are_those_of_the_joined_rows(
    architecture_class: Callable[..., Architecture],
    interaction_class: Callable[..., Interaction],
    make_line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever network reads them: grids in odd chunks, listed pairs, and with inputs of pairs or without."""
    monkeypatch.setattr(module, "_CHUNK", 5)
    line = stirred(make_line(architecture=architecture_class, interaction=interaction_class))
    for shares in (SHARES, NO_PAIRS):
        users, items = arrays(shares, "user", 3, 0), arrays(shares, "item", 7, 1)
        pair = arrays(shares, "pair", 21, 2) if shares.pair else None
        scorer = Pairs(line, shares, items, block_rows=4)
        expected = plain(line, shares, users, items, pair)
        crossed = None if pair is None else crossed_from(pair, 7)
        listed = np.array([20, 3, 3, 11, 0])
        own = None if pair is None else taken(pair, listed)
        grid, chosen = scorer.grid(users, crossed), scorer.chosen(users, listed // 7, listed % 7, own)
        assert list(grid) == list(chosen) == list(expected)
        for name, score_UI in expected.items():
            np.testing.assert_allclose(grid[name], score_UI, **CLOSE)
            np.testing.assert_allclose(chosen[name], score_UI.ravel()[listed], **CLOSE)
        assert len(np.unique(expected["pctr"])) > 15


@pytest.mark.parametrize("architecture", [Towers, SharedBottom, MMoE, PLE])
@pytest.mark.parametrize("interaction", [Concatenate, Factorization])
def test_the_usual_networks_never_put_the_parts_together(
    architecture: type[Architecture],
    interaction: type[Interaction],
    make_line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal scores could come from the plain way; these do not."""
    line = make_line(architecture=architecture, interaction=interaction)
    users, items = arrays(NO_PAIRS, "user", 3, 0), arrays(NO_PAIRS, "item", 7, 1)
    monkeypatch.setattr(Split, "whole", None)
    Pairs(line, NO_PAIRS, items).grid(users)


@pytest.mark.parametrize(("architecture", "networks"), [(Towers, 1), (MMoE, 1), (DEEP_PLE, 2)])
def test_weights_are_taken_apart_once_for_all_passes(
    architecture: Callable[..., Architecture],
    networks: int,
    make_line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the networks that read pairs."""
    asked: list[int] = []
    plain_way = blocks.by_network

    def counted(*told: Any) -> Any:
        asked.append(len(told))
        return plain_way(*told)

    monkeypatch.setattr(blocks, "by_network", counted)
    line = make_line(architecture=architecture, interaction=Concatenate)
    users, items = arrays(NO_PAIRS, "user", 9, 0), arrays(NO_PAIRS, "item", 7, 1)
    Pairs(line, NO_PAIRS, items, block_rows=4).grid(users)
    assert len(asked) == networks


def test_what_belongs_to_one_side_is_looked_up_once(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line()
    users, items = arrays(NO_PAIRS, "user", 30, 0), arrays(NO_PAIRS, "item", 40, 1)
    looked_up: list[int] = []
    gather = type(line.embedding).gather

    def counted(self: Any, rows_BF: torch.Tensor, bag_rows_BL: torch.Tensor) -> Any:
        looked_up.append(len(rows_BF))
        return gather(self, rows_BF, bag_rows_BL)

    monkeypatch.setattr(type(line.embedding), "gather", counted)
    scorer = Pairs(line, NO_PAIRS, items, block_rows=8)
    scorer.grid(taken(users, np.arange(20)))
    scorer.grid(taken(users, np.arange(20, 30)))
    assert sorted(looked_up) == [10, 20, 40]


@settings(max_examples=30, deadline=None)
@given(
    users=st.integers(1, 5),
    items=st.integers(1, 23),
    count=st.integers(1, 26),
    cut=st.integers(1, 25),
    levels=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_the_best_are_those_of_a_full_sort_with_ties_by_place(
    users: int, items: int, count: int, cut: int, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    score_UI = rng.choice(
        np.array([0.0, 1e-30, 0.2, 0.5, 0.7, 1.0], dtype=np.float32)[:levels], (users, items)
    )
    other_UI = rng.random((users, items), dtype=np.float32)
    top = Top(users, count, "p")
    for start in range(0, items, cut):
        offered = range(start, min(start + cut, items))
        for taken_users in (range(users // 2), range(users // 2, users)):
            if len(taken_users):
                block = np.s_[taken_users.start : taken_users.stop, offered.start : offered.stop]
                both = {"p": torch.from_numpy(score_UI[block]), "q": torch.from_numpy(other_UI[block])}
                top.offer(taken_users, offered, both)
    for user in range(users):
        best = sorted(range(items), key=lambda item: (-score_UI[user, item], item))[:count]
        assert top.place_UN[user].tolist() == best
        np.testing.assert_array_equal(top.scores["p"][user], score_UI[user, best])
        np.testing.assert_array_equal(top.scores["q"][user], other_UI[user, best])


def test_the_best_of_a_grid_are_those_of_all_its_scores(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 6)
    monkeypatch.setattr(module, "_STRIP", 12)
    line = stirred(make_line())
    users, items = arrays(SHARES, "user", 5, 0), arrays(SHARES, "item", 20, 1)
    items = taken(items, np.array([*range(10), *range(10)]))  # each item twice: ties everywhere
    crossed = crossed_from(taken(arrays(SHARES, "pair", 1, 2), np.zeros(100, dtype=np.int64)), 20)
    scorer = Pairs(line, SHARES, items, block_rows=4)
    every, top = scorer.grid(users, crossed), scorer.top(users, 7, by="pctcvr", crossed=crossed)
    for user in range(5):
        best = sorted(range(20), key=lambda item: (-every["pctcvr"][user, item], item))[:7]
        assert top.place_UN[user].tolist() == best
        for name, score_UI in every.items():
            np.testing.assert_array_equal(top.scores[name][user], score_UI[user, best])


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        ),
    ],
)
def test_pairs_are_scored_where_the_line_is(device: str, make_line: Callable[..., Line]) -> None:
    """A tensor that is made on the default device instead has no data here."""
    line, plainly = make_line(device=torch.device(device), averaging=0.9), make_line(averaging=0.9)
    users, items = arrays(SHARES, "user", 3, 0), arrays(SHARES, "item", 7, 1)
    pair = arrays(SHARES, "pair", 21, 2)
    expected = plain(plainly, SHARES, users, items, pair)
    with torch.device("meta"):
        scorer = Pairs(line, SHARES, items)
        grid = scorer.grid(users, crossed_from(pair, 7))
        top = scorer.top(users, 2, by="pctcvr", crossed=crossed_from(pair, 7))
        chosen = scorer.chosen(users, np.arange(21) // 7, np.arange(21) % 7, pair)
    for name, score_UI in expected.items():
        np.testing.assert_allclose(grid[name], score_UI, **CLOSE)
        np.testing.assert_allclose(chosen[name], score_UI.ravel(), **CLOSE)
    np.testing.assert_allclose(top.scores["pctcvr"], -np.sort(-expected["pctcvr"])[:, :2], **CLOSE)


def test_bfloat16_stays_near(make_line: Callable[..., Line]) -> None:
    users, items = arrays(NO_PAIRS, "user", 6, 0), arrays(NO_PAIRS, "item", 9, 1)
    exact, near = (stirred(make_line(products=dtype)) for dtype in (torch.float32, torch.bfloat16))
    for name, score_UI in Pairs(exact, NO_PAIRS, items).grid(users).items():
        np.testing.assert_allclose(Pairs(near, NO_PAIRS, items).grid(users)[name], score_UI, atol=0.02)


@pytest.mark.parametrize(
    "shares",
    [
        Shares(Share((0, 1), (0,), (0, 1)), Share((1, 2), (1,))),
        Shares(Share((0, 1), (0,), (0,)), Share((2,), (1,))),
    ],
)
def test_an_input_of_nobody_or_of_two_is_refused(shares: Shares, make_line: Callable[..., Line]) -> None:
    with pytest.raises(ValueError, match="belongs to one side"):
        Pairs(make_line(), shares, arrays(shares, "item", 1, 0))


def test_keeping_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="At least one item"):
        Top(1, 0, "p")
