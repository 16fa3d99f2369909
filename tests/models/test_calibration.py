"""Curves of calibration against brute force, a general optimiser, planted distortions and their promises."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from features.funnel import Funnel, Objective
from models.calibration import Bins, Calibration, Curve
from models.calibration.bins import COUNT, expit, logit
from models.calibration.identity import identity
from models.calibration.isotonic import isotonic, pools
from models.calibration.platt import LEAST, SPREAD, loss, parameters, platt
from models.calibration.scores import calibrated
from models.metrics import ece, log_loss, pcoc


def day(
    seed: int, rows: int, intercept: float, slope: float, base: float = -3.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, what a distorted model says of them, and their true probabilities.

    The truth is ``sigmoid(intercept + slope * logit p)`` of what the model says, p.
    """
    draw = np.random.default_rng(seed)
    z = base + draw.normal(size=rows)
    truth = expit(intercept + slope * z)
    return (draw.random(rows) < truth).astype(np.int8), expit(z).astype(np.float32), truth


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=12))
def test_pools_have_the_means_of_the_min_max_formula(told: list[tuple[int, int]]) -> None:
    """Isotonic regression at i is max over j <= i of min over k >= i of the mean of j..k (Barlow et al.)."""
    value, weight = (np.array(column, dtype=np.float64) for column in zip(*told, strict=True))
    pool = pools(value, weight)
    ours = np.array([np.average(value[pool == n], weights=weight[pool == n]) for n in pool])
    size = len(value)
    means = {
        (j, k): np.average(value[j : k + 1], weights=weight[j : k + 1])
        for j in range(size)
        for k in range(j, size)
    }
    brute = [max(min(means[j, k] for k in range(i, size)) for j in range(i + 1)) for i in range(size)]
    assert ours == pytest.approx(brute)
    assert (np.diff(ours[np.append(0, np.flatnonzero(np.diff(pool)) + 1)]) > 0).all()


@pytest.mark.parametrize(("rows", "base"), [(400, -1.0), (3000, -3.0), (3000, 2.0)])
def test_platt_finds_what_a_general_optimiser_finds_on_the_rows_themselves(rows: int, base: float) -> None:
    y, p, _ = day(7, rows, 0.4, 0.7, base)
    z = logit(p.astype(np.float64))

    def posterior(at: np.ndarray) -> float:
        fitted = at[0] + at[1] * z
        return float((np.log1p(np.exp(fitted)) - y * fitted).sum() + ((at[1] - 1) / SPREAD) ** 2 / 2)

    found = minimize(posterior, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    # bins of 1/16 logit are all that we keep of the rows
    assert parameters(Bins.of(y, p)) == pytest.approx(found.x, abs=0.01)


def test_the_slope_of_the_posterior_is_zero_where_newton_stops() -> None:
    bins = Bins.of(*day(3, 2000, -0.5, 1.3)[:2])
    rows, positives, p = bins.filled()
    at, step = np.array(parameters(bins)), 1e-5
    for towards in np.eye(2) * step:
        ahead, back = (loss(at + sign * towards, rows, positives, logit(p)) for sign in (1, -1))
        assert (ahead - back) / (2 * step) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("method", [isotonic, platt])
def test_a_planted_distortion_is_taken_back(method: type) -> None:
    """On a day that the curve has not seen; the distortion is a shift and a stretch of the logits."""
    curve = method(Bins.of(*day(1, 200_000, -1.6, 0.6)[:2]))
    y, p, truth = day(2, 200_000, -1.6, 0.6)
    calibrated = curve.apply(p)
    assert pcoc(y, p) > 1.5
    assert pcoc(y, calibrated) == pytest.approx(1, abs=0.03)
    assert ece(y, calibrated) < ece(y, p) / 8
    off = (logit(calibrated) - logit(truth)).astype(np.float64)
    assert np.sqrt(np.square(off).mean()) < 0.1
    assert np.sqrt(np.square(logit(p) - logit(truth)).mean()) > 0.5
    assert log_loss(y, calibrated) == pytest.approx(log_loss(y, truth), rel=2e-3)


def test_a_bend_that_no_two_numbers_describe_needs_isotonic() -> None:
    draw = np.random.default_rng(5)
    p = expit(draw.normal(-1, 1.5, 60_000))
    truth = np.where(p < 0.3, p / 3, 0.1 + (p - 0.3) * 9 / 7)
    y = draw.random(len(p)) < truth
    bins, fresh = Bins.of(y, p), draw.random(len(p)) < truth
    bent, straight = (ece(fresh, curve.apply(p)) for curve in (isotonic(bins), platt(bins)))
    assert bent < 0.006 < 0.012 < straight


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(20, 4000),
    st.floats(-3, 3),
    st.floats(-1, 3),
    st.floats(-8, 4),
    st.sampled_from([isotonic, platt]),
)
def test_calibration_is_monotone_between_0_and_1_and_keeps_the_mean(
    seed: int, rows: int, intercept: float, slope: float, base: float, method: type
) -> None:
    y, p, _ = day(seed, rows, intercept, slope, base)
    y[:2] = 0, 1  # both classes
    bins = Bins.of(y, p)
    curve = method(bins)
    edges = np.nextafter(curve.raw_J.astype(np.float32), np.float32(1))
    near = np.concatenate([edges + k * np.spacing(edges) for k in range(-3, 3)])
    grid = np.sort(np.concatenate([near, p, np.linspace(0, 1, 999)]).astype(np.float32).clip(0, 1))
    calibrated = curve.apply(grid)
    assert calibrated.dtype == np.float32
    assert (np.diff(calibrated) >= 0).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1
    exact = curve.exact(np.linspace(0.001, 0.999, 997))
    assert (np.diff(exact) > 0).all()
    assert 0 < exact.min() <= exact.max() < 1
    rows_F, positives_F, p_F = bins.filled()
    assert rows_F @ curve.exact(p_F) == pytest.approx(positives_F.sum(), rel=1e-6)


def test_scores_that_rank_the_wrong_way_round_keep_their_order() -> None:
    y, p, _ = day(11, 20_000, -6.0, -1.0)
    bins = Bins.of(y, p)
    assert parameters(bins)[1] == LEAST
    for curve in (isotonic(bins), platt(bins)):
        assert (np.diff(curve.apply(np.linspace(0.01, 0.9, 50))) > 0).all()
        assert pcoc(y, curve.apply(p)) == pytest.approx(1, abs=0.01)


def test_bins_count_what_a_loop_counts_and_days_add_up() -> None:
    y, p, _ = day(4, 500, 0.0, 1.0, base=0.0)
    p[:3] = 0.0, 1.0, 0.5
    bins = Bins.of(y, p)
    counted: dict[int, list[float]] = {}
    for label, told in zip(y.tolist(), p.astype(np.float64).tolist(), strict=True):
        odds = float("inf") if told == 1 else told / (1 - told)
        place = next((n for n in range(COUNT - 1) if odds < np.exp((n + 1) / 16 - 16)), COUNT - 1)
        sums = counted.setdefault(place, [0, 0, 0])
        sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + label, sums[2] + told
    for place in range(COUNT):
        ours = (bins.rows_M[place], bins.positives_M[place], bins.predicted_M[place])
        assert ours == pytest.approx(tuple(counted.get(place, (0, 0, 0))))
    parts = Bins.of(y[:200], p[:200]).merged(Bins.of(y[200:], p[200:])).merged(Bins.empty())
    assert (parts.rows_M == bins.rows_M).all()
    assert (parts.positives_M == bins.positives_M).all()
    assert parts.predicted_M == pytest.approx(bins.predicted_M)
    assert Bins.of(y[:0], p[:0]).predicted_M.dtype == np.float64


def test_evidence_decides_the_method() -> None:
    chosen = Calibration(tries=1, platt_from=20, isotonic_from=50)

    def told(positives: int, negatives: int) -> Bins:
        p = np.full(positives + negatives, 0.9)
        return Bins.of(np.arange(len(p)) < positives, p)

    def method(positives: int, negatives: int) -> str:
        later = told(positives // 10, negatives // 10)
        return chosen.fit([told(positives, negatives), Bins.empty(), later])[0].method

    assert method(18, 900) == method(900, 18) == method(0, 0) == "identity"
    assert method(20, 900) == method(900, 44) == "platt"
    assert method(46, 900) == method(900, 50) == "isotonic"  # with those of the last day
    assert chosen.fit([told(900, 900)])[0].method == "identity"  # no later day to try it on
    assert chosen.fit([Bins.empty(), told(900, 900)])[0].method == "identity"
    assert chosen.fit([])[0].method == "identity"


def test_the_share_is_the_one_of_least_log_loss_over_later_days_in_a_loop_over_their_rows() -> None:
    days = [
        day(seed, 4000, level, 1.0, base=-1.0)[:2] for seed, level in enumerate((0.4, 0.2, 0.3, -0.1, 0.1))
    ]
    chosen = Calibration(days=2, proof=3)
    curve, share = chosen.fit([Bins.of(*one) for one in days])
    losses = {}
    for tried in (0, 0.25, 0.5, 0.75, 1):
        losses[tried] = 0.0
        for n in (2, 3, 4):
            y, p = days[n]
            earlier = platt(Bins.of(*days[n - 2]).merged(Bins.of(*days[n - 1])))
            if Bins.of(*days[n - 2]).merged(Bins.of(*days[n - 1])).positives >= 1000:
                earlier = isotonic(Bins.of(*days[n - 2]).merged(Bins.of(*days[n - 1])))
            z = logit(p.astype(np.float64))
            q = expit(z + tried * (logit(earlier.exact(p)) - z))
            losses[tried] -= np.log(np.where(y == 1, q, 1 - q)).sum()
    assert share == min(losses, key=lambda tried: losses[tried])
    assert 0 < share < 1
    whole = isotonic(Bins.of(*days[3]).merged(Bins.of(*days[4])))
    raw, some, all_of_it = (logit(knots) for knots in (whole.raw_J, curve.calibrated_J, whole.calibrated_J))
    assert some == pytest.approx(raw + share * (all_of_it - raw), abs=1e-9)


def test_what_stays_wrong_is_corrected_in_full_and_what_the_model_puts_right_is_left_alone() -> None:
    lasting = [Bins.of(*day(seed, 10_000, -1.0, 1.0)[:2]) for seed in range(4)]
    assert Calibration().fit(lasting)[1] == 1
    assert Calibration().fit(lasting[:3])[0].method == "identity"  # tried twice only
    newborn, *grown = (Bins.of(*day(n, 10_000, -1.0 if n == 0 else 0.0, 1.0)[:2]) for n in range(4))
    curve, share = Calibration().fit([newborn, *grown])
    assert (curve.method, share) == ("withheld", 0)


def test_a_calibrated_joint_never_exceeds_its_parent_down_the_whole_funnel() -> None:
    hour = timedelta(hours=1)
    funnel = Funnel(
        (
            Objective(name="click", log="click", window=hour),
            Objective(name="order", log="order", given="click", window=hour),
            Objective(name="review", log="review", given="order", window=hour),
            Objective(name="spend", log="order", given="click", window=hour, kind="value", value="cents"),
        ),
        click="click",
        conversion="order",
    )

    def level(to: float) -> Curve:
        return Curve("isotonic", np.array([0.5]), np.array([to]))

    up = {name: level(0.9) for name in ("pcvr", "pctcvr", "p_review", "p_review_given_order")}
    raw = {
        "pctr": [0.5, 0.5, 0.2],
        "pcvr": [0.8, 0.1, 0.5],
        "pctcvr": [0.4, 0.05, 0.1],
        "p_review": [0.4, 0.01, 0.1],
        "p_review_given_order": [1.0, 0.2, 1.0],
    }
    scores = {name: np.array(values, dtype=np.float32) for name, values in raw.items()}
    found = calibrated(funnel, {"pctr": level(0.3), **up}, {**scores, "e_spend": np.ones(3)})
    # by hand: below 0.5 a value v becomes v * 0.9 / 0.5 or v * 0.3 / 0.5
    assert found["pctr_cal"] == pytest.approx([0.3, 0.3, 0.12])
    assert found["pctcvr_cal"] == pytest.approx([0.3, 0.09, 0.12])
    assert found["p_review_cal"] == pytest.approx([0.3, 0.018, 0.12])
    assert found["pcvr_cal"] == pytest.approx([0.96, 0.18, 0.9])
    assert found["p_review_given_order_cal"] == pytest.approx([1.0, 0.36, 1.0])
    assert set(found) == {f"{name}_cal" for name in raw}
    assert all(p.dtype == np.float32 for p in found.values())


def test_without_evidence_a_score_keeps_its_bits() -> None:
    p = np.array([0.0, 1e-30, 0.1, 1 - 2**-24, 1.0], dtype=np.float32)
    assert (identity().apply(p) == p).all()


@pytest.mark.parametrize("raw", [[0.2, 0.2], [0.5, 0.2], [0.0, 0.5], [0.5, 1.0], [0.5, float("nan")]])
def test_knots_that_do_not_rise_are_refused(raw: list[float]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Curve("isotonic", np.array(raw), np.array([0.1, 0.9]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": 0},
        {"tries": 0},
        {"tries": 3, "proof": 2},
        {"platt_from": 0},
        {"platt_from": 5, "isotonic_from": 4},
    ],
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"1 <= (tries|platt_from)"):
        Calibration(**wrong)
