"""Metrics of rows that come in batches, shards and merged parts, beside those of all rows at once."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models.metrics
from models.metrics import (
    Calibration,
    GroupRanking,
    GroupTotals,
    LabelTotals,
    Ranking,
    ValueTotals,
    auc,
    ece,
    gauc,
    ks,
    log_loss,
    mae,
    normalized_entropy,
    pcoc,
    rmse,
)

Parts = list[np.ndarray]


@st.composite
def cut_days(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, Parts, Parts]:
    """A day with or without ties, and which rows come in which batch, in two halves; batches may be empty."""
    rows = draw(st.integers(0, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = rng.random(rows).round(draw(st.sampled_from([0, 1, 7]))).astype(np.float32)
    y = (rng.random(rows) < draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))).astype(np.float32)
    cuts = sorted(draw(st.lists(st.integers(0, rows), min_size=1, max_size=8)))
    batches = _cut(rng.permutation(rows), cuts)
    half = draw(st.integers(0, len(batches)))
    return y, p, rng.integers(0, 12, rows), batches[:half], batches[half:]


def _cut(order: np.ndarray, cuts: list[int]) -> Parts:
    return [order[a:b] for a, b in pairwise([0, *cuts, len(order)])]


@settings(max_examples=60, deadline=None)
@given(day=cut_days())
def test_ranks_of_batches_and_merged_halves_equal_those_of_the_day(
    day: tuple[np.ndarray, np.ndarray, np.ndarray, Parts, Parts],
) -> None:
    y, p, user, *halves = day
    rankings, users = (Ranking(), Ranking()), (GroupRanking(), GroupRanking())
    for ranking, of_users, batches in zip(rankings, users, halves, strict=True):
        for rows in batches:
            ranking.add(y[rows], p[rows])
            of_users.add(y[rows], p[rows], user[rows])
    second = rankings[1].auc(), users[1].gauc()
    rankings[0].merge(rankings[1])
    users[0].merge(users[1])
    assert (rankings[1].auc(), users[1].gauc()) == second  # what was merged stays as it was
    # whole numbers until the last division: equal to the bit
    assert rankings[0].auc() == auc(y, p)
    assert rankings[0].ks() == ks(y, p)
    assert rankings[0].ece(7) == ece(y, p, 7)
    for weighted in (True, False):
        assert users[0].gauc(weighted) == gauc(y, p, user, weighted)


@settings(max_examples=40, deadline=None)
@given(day=cut_days())
def test_sums_of_batches_and_merged_halves_equal_those_of_the_day(
    day: tuple[np.ndarray, np.ndarray, np.ndarray, Parts, Parts],
) -> None:
    y, p, _, *halves = day
    bins = (Calibration(7), Calibration(7))
    labels, values = [LabelTotals(), LabelTotals()], [ValueTotals(), ValueTotals()]
    for half, batches in enumerate(halves):
        for rows in batches:
            bins[half].add(y[rows], p[rows])
            labels[half] = labels[half].merged(LabelTotals.of(y[rows], p[rows]))
            values[half] = values[half].merged(ValueTotals.of(y[rows], p[rows]))
    bins[0].merge(bins[1])
    label, value = labels[0].merged(labels[1]), values[0].merged(values[1])
    for streamed, exact in (
        (bins[0].ece(), ece(y, p, 7, "width")),
        (label.log_loss(), log_loss(y, p)),
        (label.normalized_entropy(), normalized_entropy(y, p)),
        (label.pcoc(), pcoc(y, p)),
        (value.rmse(), rmse(y, p)),
        (value.mae(), mae(y, p)),
        (value.pcoc(), pcoc(y, p)),
    ):
        assert (streamed is None) == (exact is None)
        assert streamed is None or streamed == pytest.approx(exact, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_shards_of_users_add_up_to_the_gauc_of_all(weighted: bool) -> None:
    rng = np.random.default_rng(3)
    user, p = rng.integers(0, 500, 20_000), rng.random(20_000, dtype=np.float32).round(2)
    y = rng.random(20_000) < p
    totals = GroupTotals()
    for shard in range(8):
        inside, of_shard = user % 8 == shard, GroupRanking()
        for rows in np.array_split(np.flatnonzero(inside), 5):
            of_shard.add(y[rows], p[rows], user[rows])
        totals = totals.merged(of_shard.totals())
    assert totals.gauc(weighted) == pytest.approx(gauc(y, p, user, weighted), rel=1e-12)


def test_a_ranking_holds_distinct_scores_not_rows_in_parts_that_shrink() -> None:
    rng = np.random.default_rng(5)
    day = Ranking()
    for _ in range(64):
        day.add(rng.integers(0, 2, 1000), rng.random(1000, dtype=np.float32).round(2))
        sizes = [len(part.score_T) for part in day._stack.parts]
        assert sum(sizes) <= 101
    unique = Ranking()
    for _ in range(64):
        unique.add(rng.integers(0, 2, 100), rng.random(100))
        sizes = [len(part.score_T) for part in unique._stack.parts]
        assert all(before > 2 * after for before, after in pairwise(sizes))
    assert len(unique._stack.whole().score_T) == 6400


def test_scores_of_both_widths_tie_only_where_they_are_equal() -> None:
    day = Ranking()
    day.add(np.array([1]), np.array([0.1], dtype=np.float32))  # a little above the float64 of that name
    day.add(np.array([0]), np.array([0.1]))
    assert day.auc() == 1
    day.add(np.array([0]), np.array([float(np.float32(0.1))]))
    assert day.auc() == 0.75


def test_bins_of_other_widths_are_not_merged() -> None:
    with pytest.raises(ValueError, match="7 bins and 8 bins"):
        Calibration(7).merge(Calibration(8))


def test_examples_of_the_docstrings_hold() -> None:
    tried = 0
    for module in pkgutil.iter_modules(models.metrics.__path__, "models.metrics."):
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0, module.name
        tried += result.attempted
    assert tried > 10
