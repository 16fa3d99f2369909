"""MTL gain and Δm against the published equations, signs by hand."""

from __future__ import annotations

import numpy as np
import pytest

from features.funnel import Funnel
from models.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER, delta_m, evaluate, mtl_gain

ALONE: dict[str, dict[str, float | None]] = {
    "click": {"auc": 0.70, "log_loss": 0.50},
    "order": {"auc": 0.80},
    "spend": {"rmse": 4.0, "mae": 2.0, "ks": 0.4},
}
TOGETHER: dict[str, dict[str, float | None]] = {
    "click": {"auc": 0.77, "log_loss": 0.55},
    "order": {"auc": 0.76},
    "spend": {"rmse": 3.0, "mae": 2.5, "ks": 0.5},
}


@pytest.mark.parametrize(
    ("metric", "together", "alone", "gain"),
    [("auc", 0.75, 0.5, 0.25), ("auc", 0.5, 0.75, -0.25), ("log_loss", 0.5, 0.75, 0.25), ("rmse", 3, 1, -2)],
)
def test_gain_is_positive_where_the_joint_model_is_better(
    metric: str, together: float, alone: float, gain: float
) -> None:
    assert mtl_gain(metric, together, alone) == gain


def test_delta_m_is_the_mean_over_objectives_of_the_mean_over_metrics() -> None:
    click = (0.07 / 0.70 - 0.05 / 0.50) / 2
    order = -0.04 / 0.80
    spend = (1.0 / 4.0 - 0.5 / 2.0 + 0.1 / 0.4) / 3
    assert delta_m(TOGETHER, ALONE) == pytest.approx((click + order + spend) / 3, abs=1e-15)


def test_delta_m_of_an_objective_per_metric_is_the_drop_of_nash_mtl_negated() -> None:
    def each(side: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
        return {f"{name} {metric}": {metric: v} for name, m in side.items() for metric, v in m.items()}

    model, base, higher = (
        np.array([0.77, 0.55, 0.76, 3.0, 2.5, 0.5]),
        np.array([0.70, 0.50, 0.80, 4.0, 2.0, 0.4]),
        np.array([1, 0, 1, 0, 0, 1]),
    )
    drop = ((-1.0) ** higher * (model - base) / base).mean()
    assert delta_m(each(TOGETHER), each(ALONE)) == pytest.approx(-drop, abs=1e-15)


def test_one_undefined_value_or_baseline_of_zero_makes_the_whole_undefined() -> None:
    assert mtl_gain("auc", None, 0.5) is mtl_gain("auc", 0.5, None) is None
    for order in (None, 0.0):
        assert delta_m(TOGETHER, {**ALONE, "order": {"auc": order}}) is None
    assert delta_m({**TOGETHER, "click": {"auc": 0.7, "log_loss": None}}, ALONE) is None
    assert delta_m({**TOGETHER, "order": {"auc": 0.0}}, ALONE) is not None


def test_sides_that_do_not_match_are_refused() -> None:
    for other in ({}, {**ALONE, "order": {"ks": 0.1}}, {**ALONE, "more": {"auc": 0.1}}):
        with pytest.raises(ValueError, match="same metrics"):
            delta_m(TOGETHER, other)
    for empty in ({}, {"click": {}}):
        with pytest.raises(ValueError, match="No metric"):
            delta_m(empty, empty)


def test_every_metric_but_pcoc_has_a_direction(funnel: Funnel) -> None:
    rng = np.random.default_rng(0)
    p = {column.name: rng.random(9) for column in funnel.score_columns}
    measured = {m.name for m in evaluate(funnel, np.zeros((9, 4)), np.ones((9, 4), bool), p, np.zeros(9))}
    assert (measured - {"pcoc"}) | {"rmse", "mae"} == HIGHER_IS_BETTER | LOWER_IS_BETTER
    assert not HIGHER_IS_BETTER & LOWER_IS_BETTER
    with pytest.raises(ValueError, match="'pcoc' is better"):
        mtl_gain("pcoc", 1.0, 1.1)
