"""Scores are held to the truth: regret, skill and ratio are those of the equations, by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import UsageError
from features.simulation import Simulation, SimulationSettings
from features.simulation.oracle import TRUTH, judged, truth

FUNNEL = SimulationSettings(impressions=2_000, users=200, items=50, seed=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("oracle")
    Simulation(FUNNEL).write(root, [FUNNEL.start])
    return root


def test_a_table_of_four_by_hand() -> None:
    true = pl.DataFrame(
        {"impression_id": list("abcd"), "category": ["c0", "c0", "c1", "c1"], "pctr": [0.1, 0.2, 0.5, 0.9]}
    ).with_columns(pcvr=pl.lit(0.5), pctcvr=pl.col("pctr") / 2)
    scores = pl.DataFrame({"impression_id": list("abcz"), "pctr": [0.2, 0.1, 0.5, 0.3]})
    (row,) = judged(scores.lazy(), true.lazy()).to_dicts()
    # z has no truth, d no score; c is scored as it is
    p, q = np.array([0.1, 0.2, 0.5]), np.array([0.2, 0.1, 0.5])
    off = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    flat = p.mean()
    constant = p * np.log(p / flat) + (1 - p) * np.log((1 - p) / (1 - flat))
    assert row.pop("score") == "pctr"
    assert row.pop("rows") == 3
    assert row == pytest.approx(
        {"regret": off.mean(), "skill": 1 - off.mean() / constant.mean(), "ratio": 1.0}, abs=1e-12
    )
    parts = judged(scores.lazy(), true.lazy(), by=("category",))
    assert parts["category"].to_list() == ["c0", "c1"]
    assert parts["regret"].to_list() == pytest.approx([off[:2].mean(), 0.0], abs=1e-12)


def test_the_truth_has_no_regret_and_every_error_in_it_has(folder: Path) -> None:
    true = truth(folder, FUNNEL.start)
    for row in judged(true, true).to_dicts():
        assert (row["rows"], row["regret"]) == (FUNNEL.impressions, pytest.approx(0, abs=1e-12))
        assert (row["skill"], row["ratio"]) == pytest.approx((1, 1))
    flat = true.with_columns(pl.col(name).mean() for name in TRUTH)
    assert judged(flat, true)["skill"].to_list() == pytest.approx([0, 0, 0], abs=1e-12)
    odds = pl.col("pctr") / (1 - pl.col("pctr")) * np.exp(0.5)
    shifted = judged(true.select("impression_id", pctr=odds / (1 + odds)), true)
    assert shifted["skill"].item() < 0.95
    assert shifted["ratio"].item() > 1.2


def test_the_regret_is_what_the_log_loss_of_the_events_exceeds_that_of_the_truth_by(folder: Path) -> None:
    true = truth(folder, FUNNEL.start).collect()
    q = (true["pctr"].to_numpy() + 0.1) / 1.2
    p = true["pctr"].to_numpy()
    regret = judged(true.select("impression_id", pctr=pl.Series(q)).lazy(), true.lazy())["regret"].item()
    draw = np.random.default_rng(0)
    excess = [
        np.mean(np.where(y, np.log(p / q), np.log((1 - p) / (1 - q))))
        for y in (draw.random((300, len(p))) < p)
    ]
    assert regret == pytest.approx(np.mean(excess), abs=4 * np.std(excess) / np.sqrt(300))


def test_a_score_of_zero_or_one_costs_much_and_not_all(folder: Path) -> None:
    true = truth(folder, FUNNEL.start)
    for score in (0.0, 1.0):
        regret = judged(true.select("impression_id", pctr=pl.lit(score)), true)["regret"].item()
        assert 0.5 < regret < 16.2  # -log(1e-7)


def test_a_day_that_was_not_simulated_is_told(folder: Path) -> None:
    with pytest.raises(UsageError, match="no truth of that day"):
        truth(folder, FUNNEL.start + timedelta(days=1))
    with pytest.raises(UsageError, match="no truth of that day"):
        truth(folder / "else", FUNNEL.start)
