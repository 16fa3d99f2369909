"""Metrics against scikit-learn and against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from features.funnel import Funnel
from models.metrics import Metric, auc, evaluate, gauc, log_loss, normalized_entropy, pcoc

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=40)


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, p, group = np.array(rows).T
    return y.astype(np.float32), (p / 6).astype(np.float32), group


def pairs(y: np.ndarray, p: np.ndarray) -> float | None:
    """Share of positive-negative pairs in order, one pair at a time."""
    won = [(a > b) + (a == b) / 2 for a, b in product(p[y == 1], p[y == 0])]
    return sum(won) / len(won) if won else None


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_auc_and_gauc_count_pairs(rows: list[tuple[int, int, int]]) -> None:
    y, p, group = columns(rows)
    assert (
        auc(y, p) == pytest.approx(pairs(y, p), nan_ok=False)
        if pairs(y, p) is not None
        else auc(y, p) is None
    )
    parts = [(pairs(y[group == g], p[group == g]), int((group == g).sum())) for g in set(group.tolist())]
    usable = [(value, size) for value, size in parts if value is not None]
    if not usable:
        assert gauc(y, p, group) is None
        return
    weighted = sum(v * n for v, n in usable) / sum(n for _, n in usable)
    assert gauc(y, p, group) == pytest.approx(weighted)
    assert gauc(y, p, group, weighted=False) == pytest.approx(sum(v for v, _ in usable) / len(usable))


@pytest.mark.parametrize("decimals", [1, 3, 9])
def test_auc_and_log_loss_equal_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    p = rng.random(20_000).round(decimals).clip(1e-6, 1 - 1e-6)
    y = (rng.random(20_000) < p**2).astype(int)
    assert auc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, p), rel=1e-9)
    base = sklearn_log_loss(y, np.full(20_000, y.mean()))
    assert normalized_entropy(y, p) == pytest.approx(sklearn_log_loss(y, p) / base, rel=1e-9)


def test_groups_may_be_names_and_inputs_tensors() -> None:
    y, p, group = columns([(1, 5, 0), (0, 2, 0), (1, 1, 1), (0, 1, 1), (1, 3, 2)])
    names = np.array(["ann", "bob", "eve"])[group]
    assert (
        gauc(y, p, names) == gauc(torch.from_numpy(y), torch.from_numpy(p), torch.from_numpy(group)) == 0.75
    )
    assert auc(torch.from_numpy(y), torch.from_numpy(p)) == auc(y, p)


def test_undefined_is_none() -> None:
    nothing, ones, p = np.zeros(0), np.ones(3), np.array([0.2, 0.5, 0.9])
    for metric in (auc, log_loss, normalized_entropy, pcoc):
        assert metric(nothing, nothing) is None
    assert gauc(nothing, nothing, nothing) is None
    assert auc(ones, p) is None
    assert normalized_entropy(ones, p) is None
    assert pcoc(0 * ones, p) is None


def test_a_certain_mistake_costs_a_finite_amount() -> None:
    assert log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(-math.log(1e-7))


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        auc(np.array([0, 1]), np.array([0.5, np.nan]))


def test_predicting_the_base_rate_has_entropy_one_and_is_calibrated() -> None:
    y = np.array([1, 0, 0, 0])
    assert normalized_entropy(y, np.full(4, 0.25)) == pytest.approx(1)
    assert pcoc(y, np.full(4, 0.25)) == pytest.approx(1)
    assert pcoc(y, np.full(4, 0.5)) == pytest.approx(2)


def found(metrics: list[Metric], objective: str, space: str, name: str) -> Metric:
    (one,) = (m for m in metrics if (m.objective, m.space, m.name) == (objective, space, name))
    return one


def test_conversion_is_measured_in_three_spaces_by_name(make_tree: Callable[..., Funnel]) -> None:
    funnel = make_tree(None, 0)
    rng = np.random.default_rng(2)
    y = np.zeros((500, 2), dtype=np.float32)
    y[:, 0] = rng.random(500) < 0.4
    y[:, 1] = y[:, 0] * (rng.random(500) < 0.5)
    valid = np.ones((500, 2), dtype=bool)
    valid[:50, 1] = False
    y[:50, 1] = np.nan
    p = {name: rng.random(500).astype(np.float32) for name in ("pctr", "pcvr", "pctcvr")}
    metrics = evaluate(funnel, y, valid, p, rng.integers(0, 9, 500))

    late, clicked = y[50:], y[50:, 0] == 1
    for space, score, inside in (
        ("impressions", p["pctcvr"][50:], np.ones(450, dtype=bool)),
        ("given_a", p["pcvr"][50:], clicked),
        ("conditional_over_impressions", p["pcvr"][50:], np.ones(450, dtype=bool)),
    ):
        one = found(metrics, "b", space, "auc")
        assert one.value == pytest.approx(roc_auc_score(late[inside, 1], score[inside]))
        assert (one.rows, one.positives) == (inside.sum(), late[inside, 1].sum())
    assert found(metrics, "a", "impressions", "auc").value == pytest.approx(roc_auc_score(y[:, 0], p["pctr"]))
    assert {m.space for m in metrics if m.objective == "a"} == {"impressions"}
    names = {"auc", "gauc", "gauc_unweighted", "log_loss", "normalized_entropy", "pcoc"}
    assert {m.name for m in metrics} == names
    assert len(metrics) == 4 * len(names)


def test_a_day_without_valid_labels_reports_rows_of_zero(funnel: Funnel) -> None:
    p = {column.name: torch.rand(3) for column in funnel.score_columns}
    metrics = evaluate(funnel, torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool), p, torch.arange(3))
    assert {(m.value, m.rows, m.positives) for m in metrics} == {(None, 0, 0)}
