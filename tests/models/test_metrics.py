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
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import mean_absolute_error, roc_auc_score, roc_curve, root_mean_squared_error

from features.funnel import Funnel
from models.metrics import (
    Metric,
    auc,
    conversion_auc,
    ece,
    evaluate,
    gauc,
    ks,
    log_loss,
    mae,
    normalized_entropy,
    pcoc,
    rmse,
)

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


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_ks_tries_every_threshold(rows: list[tuple[int, int, int]]) -> None:
    y, p, _ = columns(rows)
    if y.min() == y.max():
        assert ks(y, p) is None
        return
    rates = [((p[y == 1] >= t).mean(), (p[y == 0] >= t).mean()) for t in [*p.tolist(), np.inf]]
    assert ks(y, p) == pytest.approx(max(hit - alarm for hit, alarm in rates), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, bins=st.integers(1, 9))
def test_ece_bins_one_row_at_a_time(rows: list[tuple[int, int, int]], bins: int) -> None:
    y, p, _ = columns(rows)

    def by_width(value: float) -> int:
        return next(m for m in range(bins) if m == bins - 1 or value <= (m + 1) / bins)

    def by_mass(value: float) -> int:
        middle = (p < value).sum() + (p == value).sum() / 2
        return int(bins * middle // len(p))

    for equal, place in (("width", by_width), ("mass", by_mass)):
        inside = [[i for i in range(len(p)) if place(float(p[i])) == m] for m in range(bins)]
        gaps = [
            len(i) / len(p) * abs(y[i].astype(float).mean() - p[i].astype(float).mean()) for i in inside if i
        ]
        assert ece(y, p, bins, equal) == pytest.approx(sum(gaps), abs=1e-12)


@pytest.mark.parametrize(("equal", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_ece_equals_the_calibration_curve_of_scikit_learn(equal: str, strategy: str) -> None:
    rng = np.random.default_rng(4)
    p = rng.permutation(np.linspace(1e-4, 0.7, 3000))
    y = (rng.random(3000) < p**1.3).astype(int)
    seen, said = calibration_curve(y, p, n_bins=10, strategy=strategy)
    rows = np.full(10, 300) if equal == "mass" else np.histogram(p, np.linspace(0, 1, 11))[0][:7]
    assert len(seen) == len(rows)  # bins 8 to 10 have no row and no weight
    assert ece(y, p, 10, equal) == pytest.approx((rows / 3000 * abs(seen - said)).sum(), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 3, 9])
def test_ranks_and_sums_equal_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    p = rng.random(20_000).round(decimals).clip(1e-6, 1 - 1e-6)
    y = (rng.random(20_000) < p**2).astype(int)
    assert auc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    false, true, _ = roc_curve(y, p, drop_intermediate=False)
    assert ks(y, p) == pytest.approx((true - false).max(), abs=1e-12)
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, p), rel=1e-9)
    assert pcoc(y, p) == pytest.approx(1 + (p.mean() - y.mean()) / y.mean(), rel=1e-9)
    assert rmse(y, p) == pytest.approx(root_mean_squared_error(y, p), rel=1e-9)
    assert mae(y, p) == pytest.approx(mean_absolute_error(y, p), rel=1e-9)
    base = sklearn_log_loss(y, np.full(20_000, y.mean()))
    assert normalized_entropy(y, p) == pytest.approx(sklearn_log_loss(y, p) / base, rel=1e-9)


def test_groups_may_be_names_and_inputs_tensors() -> None:
    y, p, group = columns([(1, 5, 0), (0, 2, 0), (1, 1, 1), (0, 1, 1), (1, 3, 2)])
    names = np.array(["ann", "bob", "eve"])[group]
    assert gauc(y, p, names) == gauc(y, p, names.astype(object)) == 0.75
    assert gauc(torch.from_numpy(y), torch.from_numpy(p), torch.from_numpy(group)) == 0.75
    assert auc(torch.from_numpy(y), torch.from_numpy(p)) == auc(y, p)


def test_F47_undefined_is_none() -> None:
    nothing, ones, p = np.zeros(0), np.ones(3), np.array([0.2, 0.5, 0.9])
    for metric in (auc, ks, log_loss, normalized_entropy, pcoc, ece, rmse, mae):
        assert metric(nothing, nothing) is None
    assert ece(nothing, nothing, equal="width") is None
    assert gauc(nothing, nothing, nothing) is None
    assert auc(ones, p) is None
    assert ks(ones, p) is ks(0 * ones, p) is None
    assert normalized_entropy(ones, p) is None
    assert pcoc(0 * ones, p) is None


def test_a_certain_mistake_costs_a_finite_amount() -> None:
    assert log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize(
    ("y", "p", "told"),
    [
        ([0, 1], [0.5, np.nan], "finite"),
        ([0, np.nan], [0.5, 0.5], "finite"),
        ([0, 2], [0.5, 0.5], "0 or 1"),
        ([0, 1], [0.5, 1.5], "between 0 and 1"),
        ([0, 1], [0.5], "per row"),
    ],
)
def test_rows_that_have_no_meaning_are_refused(y: list[float], p: list[float], told: str) -> None:
    for equal in ("mass", "width"):
        with pytest.raises(ValueError, match=told):
            ece(np.array(y), np.array(p), equal=equal)
    with pytest.raises(ValueError, match=told):
        log_loss(np.array(y), np.array(p))
    if told != "between 0 and 1":  # a logit ranks as well as a probability
        for rank in (auc, ks, lambda y, p: gauc(y, p, y)):
            with pytest.raises(ValueError, match=told):
                rank(np.array(y), np.array(p))


def test_bins_and_groups_that_do_not_fit_are_refused() -> None:
    y, p = np.array([0, 1]), np.array([0.2, 0.8])
    for equal in ("mass", "width"):
        with pytest.raises(ValueError, match="one bin"):
            ece(y, p, 0, equal)
    with pytest.raises(ValueError, match="One group per row"):
        gauc(y, p, np.zeros(3))


def test_a_model_that_ranks_the_wrong_way_round_separates_nothing() -> None:
    y, p = np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.8, 0.9])
    assert (auc(y, p), ks(y, p)) == (0, 0)
    assert ks(1 - y, p) == 1


def test_rows_of_one_score_are_one_bin_however_they_are_ordered() -> None:
    y = np.array([1, 0, 0, 0, 1, 0])
    p = np.array([0.3, 0.3, 0.3, 0.3, 0.9, 0.9])
    want = (abs(1 - 4 * 0.3) + abs(1 - 2 * 0.9)) / 6
    for order in (np.arange(6), np.array([3, 5, 1, 0, 4, 2])):
        assert ece(y[order], p[order], bins=3) == pytest.approx(want, abs=1e-15)


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
    spaces = ("given_a", "conditional_over_impressions", "impressions")
    said = conversion_auc(late[:, 0], late[:, 1], p["pcvr"][50:], p["pctcvr"][50:])
    assert (said.pcvr_on_clicks, said.pcvr_over_impressions, said.pctcvr_over_impressions) == tuple(
        found(metrics, "b", space, "auc").value for space in spaces
    )
    for name, metric in (("ks", ks), ("ece", ece), ("log_loss", log_loss), ("pcoc", pcoc)):
        one = found(metrics, "b", "given_a", name).value
        assert one == metric(late[clicked, 1], p["pcvr"][50:][clicked])
    assert found(metrics, "a", "impressions", "auc").value == pytest.approx(roc_auc_score(y[:, 0], p["pctr"]))
    assert {m.space for m in metrics if m.objective == "a"} == {"impressions"}
    names = {"auc", "gauc", "gauc_unweighted", "ks", "log_loss", "normalized_entropy", "pcoc", "ece"}
    assert {m.name for m in metrics} == names
    assert len(metrics) == 4 * len(names)


def test_a_day_without_valid_labels_reports_rows_of_zero(funnel: Funnel) -> None:
    p = {column.name: torch.rand(3) for column in funnel.score_columns}
    metrics = evaluate(funnel, torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool), p, torch.arange(3))
    assert {(m.value, m.rows, m.positives) for m in metrics} == {(None, 0, 0)}


def test_a_conversion_without_its_click_is_refused() -> None:
    with pytest.raises(ValueError, match="without its click"):
        conversion_auc(np.array([0, 1]), np.array([1, 0]), np.array([0.5, 0.5]), np.array([0.2, 0.2]))
