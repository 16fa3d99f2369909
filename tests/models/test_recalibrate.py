"""What is learned from thinned negatives is the probability of the logs: closed forms and a small line."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from features.funnel import Funnel
from features.sampling.base import Sampling
from features.sampling.negative_down import NegativeDown
from features.sampling.oversampling import Oversampling
from models.batch import Batch
from models.entire_space.base import EntireSpace, Labels
from models.entire_space.chain import log_reach
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.line import Line
from models.recalibrate import log_rates, sample_logits


@given(st.floats(-30, 30), st.floats(1e-4, 10))
def test_he_et_al_recalibrate_the_probability_of_the_sample_to_that_of_the_logs(z: float, w: float) -> None:
    """As q / (q + (1 - q) / w), section 6.3, in float64 from the sample's logit."""
    (sample,) = sample_logits(torch.tensor([[z]]), log_rates((w,), 1)).double().squeeze(0).tolist()
    q, not_q = 1 / (1 + math.exp(-sample)), 1 / (1 + math.exp(sample))
    assert q / (q + not_q / w) == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-4)


def test_without_rates_a_logit_keeps_its_bits() -> None:
    logits_BK = torch.tensor([[0.0, -0.0, 1e-30], [float("inf"), -7.1, 3.3]])
    assert torch.equal(sample_logits(logits_BK, log_rates(None, 3)), logits_BK)


@pytest.mark.parametrize("rates", [(0.5,), (0.5, 0.0), (0.5, -1.0), (0.5, math.inf), (0.5, math.nan)])
def test_rates_that_cannot_be_are_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Expected 2 positive rates of negatives"):
        log_rates(rates, 2)


def fitted(
    method: EntireSpace, y_BK: Tensor, weight_B: Tensor, funnel: Funnel, rates: tuple[float, ...]
) -> Tensor:
    """The constant logits, shape (K,), that minimise the sum of the losses on a sample."""
    logits_K = torch.zeros(len(funnel), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([logits_K], lr=0.5, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)
    trains_BK = torch.ones(y_BK.shape, dtype=torch.bool)

    def loss() -> Tensor:
        solver.zero_grad()
        logits_BK = sample_logits(logits_K.expand_as(y_BK), log_rates(rates, len(funnel)))
        total = method.losses(logits_BK, Labels(y_BK, trains_BK, weight_B), funnel).sum()
        total.backward()
        return total

    solver.step(loss)
    return logits_K.detach()


#: Impressions by (click, conversion).
COUNTS = {(1, 1): 30.0, (1, 0): 170.0, (0, 0): 1_800.0}


@pytest.mark.parametrize("rate", [1.0, 0.25, 0.01])
@pytest.mark.parametrize("method", [ESMM(), Masked()])
def test_thinned_rows_without_a_click_leave_the_rates_of_click_and_conversion_as_they_are(
    make_tree: Callable[..., Funnel], method: EntireSpace, rate: float
) -> None:
    """In expectation, so exactly: 200 clicks of 2,000 impressions, 30 conversions of 200 clicks."""
    y_BK = torch.tensor(list(COUNTS), dtype=torch.float64)
    kept = torch.tensor([30.0, 170.0, 1_800.0 * rate], dtype=torch.float64)
    logits_K = fitted(method, y_BK, kept, make_tree(None, 0), (rate, 1.0))
    assert logits_K.sigmoid().tolist() == pytest.approx([0.1, 0.15], rel=1e-5)
    reached_BK, _ = log_reach(logits_K.unsqueeze(0), make_tree(None, 0))
    assert reached_BK.exp()[0, 1].item() == pytest.approx(0.015, rel=1e-5)


@pytest.mark.parametrize(("copies", "negatives"), [(5.0, 1.0), (1.0, 0.2), (3.0, 0.5)])
def test_repeated_conversions_and_thinned_failures_leave_the_rate_of_conversion_as_it_is(
    make_tree: Callable[..., Funnel], copies: float, negatives: float
) -> None:
    y_BK = torch.tensor([(1, 1), (1, 0)], dtype=torch.float64)
    kept = torch.tensor([30.0 * copies, 170.0 * negatives], dtype=torch.float64)
    logits_K = fitted(Masked(), y_BK, kept, make_tree(None, 0), (1.0, negatives / copies))
    assert logits_K[1].sigmoid().item() == pytest.approx(0.15, rel=1e-5)


def test_a_logistic_regression_on_the_sample_is_off_by_log_w_and_by_nothing_else(
    make_tree: Callable[..., Funnel],
) -> None:
    """The reference knows nothing of rates: its intercept is ours less log w."""
    w = 0.05
    y = np.array([1] * 200 + [0] * 90)  # 200 clicks, and 90 of 1,800 impressions without
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(np.zeros((len(y), 1)), y)
    y_BK = torch.tensor(np.stack([y, np.zeros_like(y)], axis=1), dtype=torch.float64)
    ours_K = fitted(Masked(), y_BK, torch.ones(len(y)), make_tree(None, 0), (w, 1.0))
    assert ours_K[0].item() == pytest.approx(math.log(0.1 / 0.9), rel=1e-5)
    assert reference.intercept_[0] == pytest.approx(ours_K[0].item() - math.log(w), rel=1e-4)


def logs(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    """Impressions of the small funnel whose click depends on one number, with about 7 % clicks."""
    x = rng.standard_normal((rows, 2)).astype(np.float32)
    click = rng.random(rows) < 1 / (1 + np.exp(3.0 - 0.8 * x[:, 0]))
    conversion = click & (rng.random(rows) < 0.3)
    return pl.DataFrame(
        {
            "impression_id": [f"{number:x}" for number in rng.integers(0, 2**63, rows)],
            "x": pl.Series(x[:, 0]),
            "y_a": click.astype(np.int8),
            "y_b": conversion.astype(np.int8),
            "trains_a": np.full(rows, True),
            "trains_b": np.full(rows, True),
        }
    )


def encoded(rows: pl.DataFrame) -> dict[str, Any]:
    dense = np.zeros((rows.height, 2), dtype=np.float32)
    dense[:, 0] = rows["x"].to_numpy()
    return {
        "rows": np.ones((rows.height, 3), dtype=np.int64),
        "bag_rows": np.zeros((rows.height, 6), dtype=np.int64),
        "dense": dense,
        "y": rows.select("y_a", "y_b").to_numpy().astype(np.float32),
        "trains": rows.select("trains_a", "trains_b").to_numpy(),
    }


@pytest.mark.parametrize(
    ("method", "sampling", "biased"),
    [
        (ESMM(), NegativeDown(objectives=("a",), rate=0.1), "a"),
        (Masked(), NegativeDown(objectives=("a",), rate=0.1), "a"),
        (Masked(), Oversampling(objective="b", factor=5), "b"),
    ],
)
def test_a_line_that_learns_from_a_sample_predicts_the_rates_of_the_logs(
    make_line: Callable[..., Line],
    make_tree: Callable[..., Funnel],
    method: EntireSpace,
    sampling: Sampling,
    biased: str,
) -> None:
    funnel, rng = make_tree(None, 0), np.random.default_rng(1)
    make = partial(make_line, funnel=funnel, method=method, dense_rate=5e-3, averaging=0.99)
    told, untold = make(negative_rates=sampling.negative_rates(funnel)), make()
    seen = drawn = 0
    while drawn < 30_000:
        window = logs(rng, 4_000)
        sample = sampling.sample(window, funnel, seed=3).sample(fraction=1, shuffle=True, seed=seen)
        seen, drawn = seen + window.height, drawn + sample.height
        for part in sample.iter_slices(128):
            for line in (told, untold):
                line.learn(Batch.from_numpy(encoded(part)))
    assert (drawn < 0.2 * seen) == isinstance(sampling, NegativeDown)

    new = logs(rng, 40_000)
    observed = {"a": new["y_a"].mean(), "b": new.filter(pl.col("y_a") == 1)["y_b"].mean()}

    def predicted(line: Line, name: str) -> float:
        log_p_BK = line.predict(Batch.from_numpy(encoded(new))).conditional_BJ
        in_space = np.full(new.height, True) if name == "a" else (new["y_a"] == 1).to_numpy()
        return log_p_BK[torch.from_numpy(in_space), "ab".index(name)].exp().mean().item()

    for name in "ab":
        assert predicted(told, name) == pytest.approx(observed[name], rel=0.12), name
    # the same line without the rate over-predicts by far: the test could see it
    assert predicted(untold, biased) > 1.8 * observed[biased]


def test_the_rate_of_a_line_may_change_from_one_day_to_the_next(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    """A state says nothing of rates: what it predicts is meant for the logs at any of them."""
    line, other = (make_line(negative_rates=(rate, 1.0, 1.0, 1.0)) for rate in (0.1, 0.5))
    line.learn(make_batch(32, 1))
    other.restore(line.state())
    new = make_batch(32, 2)
    assert torch.equal(line.predict(new).joint_BJ, other.predict(new).joint_BJ)
