"""Each policy draws the rows that its definition says, with the chances that it says, whatever the order."""

from __future__ import annotations

import math
from collections import Counter
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.errors import UsageError
from features.funnel import Funnel, Objective
from features.sampling.aman import AMAN
from features.sampling.base import Sampling, draws
from features.sampling.everything import Everything
from features.sampling.negative_down import NegativeDown
from features.sampling.oversampling import Oversampling
from features.sampling.unbias import Unbias

GIVEN = {"click": None, "cart": "click", "buy": "cart", "share": "click", "like": None}
FUNNEL = Funnel(
    tuple(
        Objective(name=name, log="log", given=parent, window=timedelta(hours=1))
        for name, parent in GIVEN.items()
    ),
    click="click",
    conversion="cart",
)
NAMES = FUNNEL.names
ROWS = 60_000
SEED = 11


def log(rows: int = ROWS, seed: int = 0, trains: float = 0.8) -> pl.DataFrame:
    """A funnel with every combination of labels and masks; ``number`` tells the rows apart."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        "impression_id": [f"imp-{seed}-{number}" for number in range(rows)],
        "number": np.arange(rows),
        "weight": rng.uniform(0.5, 2, rows).astype(np.float32),
    }
    labels: dict[str, np.ndarray] = {}
    for name, parent in GIVEN.items():
        happened = rng.random(rows) < 0.4
        labels[name] = happened if parent is None else happened & labels[parent]
        columns[f"y_{name}"] = labels[name].astype(np.int8)
        columns[f"trains_{name}"] = rng.random(rows) < trains
    return pl.DataFrame(columns)


def group_propensity(rows: pl.DataFrame, objective: str) -> pl.Series:
    """A made-up model: three sorts of impressions, by number."""
    assert objective == "click"
    return (rows["number"] % 3).replace_strict({0: 0.1, 1: 0.4, 2: 0.8}, return_dtype=pl.Float64)


POLICIES: dict[str, Sampling] = {
    "everything": Everything(),
    "negative_down": NegativeDown(objectives=("click",), rate=0.3),
    "negative_down_two": NegativeDown(objectives=("cart", "like"), rate=0.6),
    "aman": AMAN(objective="cart", rate=0.2),
    "aman_deep": AMAN(objective="buy", rate=0.5),
    "oversampling": Oversampling(objective="cart", factor=5),
    "unbias": Unbias(objective="cart", floor=0.1),
}


@pytest.fixture(params=POLICIES.values(), ids=POLICIES.keys())
def policy(request: pytest.FixtureRequest) -> Sampling:
    assert isinstance(request.param, Sampling)
    return request.param


def sampled(policy: Sampling, window: pl.DataFrame, seed: int = SEED) -> pl.DataFrame:
    return policy.sample(window, FUNNEL, seed=seed, propensity=group_propensity)


def trained(rows: pl.DataFrame, name: str) -> Counter[int]:
    """How often each row trains the objective, by its number."""
    return Counter(rows.filter(pl.col(f"trains_{name}"))["number"].to_list())


def assert_binomial(successes: int, trials: int, chance: float) -> None:
    """Within five standard deviations: a fair draw misses them less than once in a million."""
    assert abs(successes - trials * chance) <= 5 * math.sqrt(trials * chance * (1 - chance))


# Promises of every policy


def canonical(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(rows.columns)


def test_decisions_do_not_depend_on_windows_or_on_the_order_of_rows(policy: Sampling) -> None:
    window = log(2_000)
    whole = canonical(sampled(policy, window))
    for size in (1, 7, 1_000):
        parts = [sampled(policy, part) for part in window.head(500).iter_slices(size)]
        assert_frame_equal(canonical(pl.concat(parts)), whole.filter(pl.col("number") < 500))
    assert_frame_equal(canonical(sampled(policy, window.sample(fraction=1, shuffle=True, seed=3))), whole)


def test_the_same_seed_repeats_and_another_seed_draws_others(policy: Sampling) -> None:
    window = log(2_000)
    first = sampled(policy, window)
    assert_frame_equal(sampled(policy, window), first)
    again = sampled(policy, window, seed=SEED + 1)
    drawing = not isinstance(policy, Everything | Oversampling)
    assert again.equals(first) != drawing


def test_no_row_trains_what_is_not_to_be_learned_and_none_trains_nothing(policy: Sampling) -> None:
    window = log(5_000).filter(pl.any_horizontal(f"trains_{name}" for name in NAMES))
    found = sampled(policy, window)
    assert found.columns == window.columns
    assert found.schema == window.schema
    assert found.select(pl.any_horizontal(f"trains_{name}" for name in NAMES).all()).item()
    for name in NAMES:
        assert trained(found, name).keys() <= trained(window, name).keys()
    # what belongs to the row comes with each of its copies
    joined = found.join(window, on="number", suffix="_before")
    assert joined.height == found.height
    assert joined.select((pl.col("weight") == pl.col("weight_before")).all()).item()


def test_a_label_that_may_still_change_decides_nothing(policy: Sampling) -> None:
    """Where an objective's windows are open, its label and those below it are blotted out."""
    window = log(5_000)
    closed: dict[str, pl.Expr] = {}
    for name, parent in reversed(GIVEN.items()):
        # the clock closes a parent before its children
        closed[name] = pl.col(f"trains_{name}") | pl.any_horizontal(
            pl.lit(False), *(closed[child] for child, above in GIVEN.items() if above == name)
        )
        assert parent not in closed
    blotted = window.with_columns(
        pl.when(closed[name]).then(f"y_{name}").alias(f"y_{name}") for name in NAMES
    )
    assert blotted.null_count().sum_horizontal().item() > 0
    keys = ["number", *(f"trains_{name}" for name in NAMES)]
    assert_frame_equal(sampled(policy, blotted).select(keys), sampled(policy, window).select(keys))


def test_an_empty_window_stays_empty(policy: Sampling) -> None:
    assert sampled(policy, log(10).clear()).is_empty()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.001, 1), st.integers(0, 2**32), st.sampled_from(["aman", "unbias", "x"]))
def test_draws_are_uniform(rate: float, seed: int, stream: str) -> None:
    drawn = draws(UNIFORM, seed, stream).to_numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert_binomial(int((drawn < rate).sum()), len(drawn), rate)


UNIFORM = log(20_000).select("impression_id")


def test_streams_and_seeds_are_independent_of_each_other() -> None:
    """Correlations of 20,000 independent uniform draws stay below 5 / sqrt(20,000)."""
    streams = [draws(UNIFORM, seed, stream) for seed in (1, 2) for stream in ("a", "b")]
    correlations = np.corrcoef(np.stack([drawn.to_numpy() for drawn in streams]))
    assert np.abs(correlations - np.eye(4)).max() < 5 / math.sqrt(20_000)


# Everything


def test_everything_is_the_window_itself() -> None:
    window = log(100)
    assert sampled(Everything(), window) is window


# Negative down-sampling


def test_all_positives_stay_and_negatives_at_the_rate() -> None:
    window, policy = log(), NegativeDown(objectives=("click",), rate=0.3)
    before, after = trained(window, "click"), trained(sampled(policy, window), "click")
    positives = set(window.filter(pl.col("y_click") == 1)["number"]) & before.keys()
    assert max(after.values()) == 1
    assert positives <= after.keys()
    assert_binomial(len(after.keys() - positives), len(before.keys() - positives), 0.3)


def test_a_dropped_negative_leaves_the_objectives_below_and_no_others() -> None:
    """One impression is in the sample of a click and of what follows it, or of neither."""
    window = log()
    found = sampled(NegativeDown(objectives=("click",), rate=0.3), window)
    assert trained(found, "like") == trained(window, "like")
    clicked = set(window.filter(pl.col("y_click") == 1)["number"])
    for name in ("cart", "buy", "share"):
        before, after = trained(window, name), trained(found, name)
        assert before.keys() & clicked == after.keys() & clicked
        both = before.keys() & trained(window, "click").keys() - clicked
        assert after.keys() & both == trained(found, "click").keys() & both


def test_one_draw_serves_all_objectives_so_that_rows_are_saved() -> None:
    window = log(trains=1.0)
    found = sampled(NegativeDown(objectives=("click", "like"), rate=0.1), window)
    neither = window.filter((pl.col("y_click") == 0) & (pl.col("y_like") == 0))
    kept = found.join(neither.select("number"), on="number", how="semi")
    assert_binomial(kept.height, neither.height, 0.1)
    assert kept.select(pl.all_horizontal(f"trains_{name}" for name in NAMES).all()).item()


def test_below_another_objective_the_negatives_of_its_own_space_are_thinned() -> None:
    window, policy = log(), NegativeDown(objectives=("cart",), rate=0.25)
    found = sampled(policy, window)
    inside = set(window.filter(pl.col("y_click") == 1)["number"])
    positive = set(window.filter(pl.col("y_cart") == 1)["number"])
    before, after = trained(window, "cart").keys() & inside, trained(found, "cart").keys() & inside
    assert before & positive == after & positive
    assert_binomial(len(after - positive), len(before - positive), 0.25)
    assert trained(found, "click") == trained(window, "click")
    assert trained(found, "share") == trained(window, "share")


def test_rates_are_stated_where_they_hold() -> None:
    assert NegativeDown(objectives=("click", "buy"), rate=0.3).negative_rates(FUNNEL) == (0.3, 1, 0.3, 1, 1)
    assert Oversampling(objective="cart", factor=4).negative_rates(FUNNEL) == (1, 0.25, 1, 1, 1)
    for policy in (Everything(), POLICIES["aman"], POLICIES["unbias"]):
        assert policy.negative_rates(FUNNEL) == (1, 1, 1, 1, 1)


# AMAN


@pytest.mark.parametrize(
    ("objective", "parent", "rate"), [("cart", "click", 0.2), ("buy", "cart", 0.5), ("cart", "click", 1.0)]
)
def test_rows_without_the_parent_join_at_the_rate_as_failures(
    objective: str, parent: str, rate: float
) -> None:
    window = log()
    found = sampled(AMAN(objective=objective, rate=rate), window)
    labels = {int(row["number"]): row for row in window.rows(named=True)}
    own = found.filter(pl.col(f"trains_{objective}"))
    # all that trains the objective now lies in its space, as a method that learns there sees it
    assert own[f"y_{parent}"].to_list() == [1] * own.height
    assert max(trained(found, objective).values()) == 1
    inside = {number for number in trained(window, objective) if labels[number][f"y_{parent}"] == 1}
    outside = trained(window, objective).keys() - inside
    assert inside <= trained(found, objective).keys()
    joined = own.filter(pl.col("number").is_in(list(outside)))
    assert joined[f"y_{objective}"].sum() == 0
    assert_binomial(joined.height, len(outside), rate)
    # a child implies its parents, also here
    assert joined["y_click"].to_list() == [1] * joined.height


def test_a_row_that_joins_still_teaches_the_click_that_it_had_none() -> None:
    window = log()
    found = sampled(AMAN(objective="cart", rate=0.5), window)
    for name in ("click", "buy", "share", "like"):
        assert trained(found, name) == trained(window, name)
        labels = found.filter(pl.col(f"trains_{name}")).join(window, on="number", suffix="_before")
        assert labels[f"y_{name}"].equals(labels[f"y_{name}_before"], check_names=False)


# Oversampling


def test_positives_come_as_often_as_the_factor_and_train_other_objectives_once() -> None:
    window = log()
    found = sampled(Oversampling(objective="cart", factor=5), window)
    positive = set(window.filter(pl.col("y_cart") == 1)["number"])
    expected = {number: 5 if number in positive else 1 for number in trained(window, "cart")}
    assert trained(found, "cart") == expected
    for name in ("click", "buy", "share", "like"):
        assert trained(found, name) == trained(window, name)
    # a copy is made for those that learn from it alone
    alone = window.filter(~pl.any_horizontal(f"trains_{name}" for name in NAMES)).height
    assert found.height == window.height - alone + 4 * len(positive & trained(window, "cart").keys())


def test_a_factor_of_one_changes_nothing() -> None:
    window = log(1_000, trains=1.0)
    assert_frame_equal(sampled(Oversampling(objective="cart", factor=1), window), window)


# UNBIAS


def clicks(chances: tuple[float, float, float], cart: tuple[float, float, float]) -> pl.DataFrame:
    """Three equal groups of impressions, each with its own chance of a click and of a cart after it."""
    rng = np.random.default_rng(5)
    group = np.arange(3 * ROWS) % 3
    click = rng.random(len(group)) < np.array(chances)[group]
    cart_after = click & (rng.random(len(group)) < np.array(cart)[group])
    return log(3 * ROWS, trains=1.0).with_columns(
        pl.Series("y_click", click.astype(np.int8)),
        pl.Series("y_cart", cart_after.astype(np.int8)),
        pl.Series("group", group),
    )


def test_kept_clicks_are_spread_as_impressions_are_and_their_rate_is_that_of_all_impressions() -> None:
    window = clicks((0.1, 0.4, 0.8), (0.5, 0.2, 0.05))
    found = sampled(Unbias(objective="cart", floor=0.1), window)
    kept = found.filter((pl.col("y_click") == 1) & pl.col("trains_cart"))
    for group in range(3):
        assert_binomial(kept.filter(pl.col("group") == group).height, ROWS, 0.1)
    # over all impressions a cart follows a click in (0.5 + 0.2 + 0.05) / 3 of the cases; over clicks in 11 %
    assert_binomial(kept["y_cart"].sum(), kept.height, 0.25)
    raw = window.filter(pl.col("y_click") == 1)
    assert raw["y_cart"].mean() == pytest.approx((0.05 + 0.08 + 0.04) / 1.3, abs=0.005)


def test_each_row_is_kept_by_its_own_chance_and_never_by_its_label() -> None:
    window = clicks((0.1, 0.4, 0.8), (0.5, 0.5, 0.5))
    found = sampled(Unbias(objective="cart", floor=0.2), window)
    for group, chance in enumerate((1.0, 0.5, 0.25)):
        for label in (0, 1):
            chosen = (pl.col("group") == group) & (pl.col("y_click") == 1) & (pl.col("y_cart") == label)
            before = window.filter(chosen).height
            assert_binomial(found.filter(chosen & pl.col("trains_cart")).height, before, chance)


def test_a_rejected_row_still_trains_everything_else_and_rows_outside_the_space_stay() -> None:
    window = log()
    found = sampled(Unbias(objective="cart", floor=0.1), window)
    for name in ("click", "buy", "share", "like"):
        assert trained(found, name) == trained(window, name)
    outside = set(window.filter(pl.col("y_click") == 0)["number"])
    assert trained(found, "cart").keys() & outside == trained(window, "cart").keys() & outside


def test_without_a_model_before_this_run_every_row_is_kept() -> None:
    window = log(1_000)
    assert Unbias(objective="cart", floor=0.1).sample(window, FUNNEL, seed=SEED) is window


def test_only_rows_of_the_space_that_train_are_scored() -> None:
    seen: list[int] = []

    def propensity(rows: pl.DataFrame, objective: str) -> pl.Series:
        seen.extend(rows["number"])
        return group_propensity(rows, objective)

    window = log(1_000)
    Unbias(objective="cart", floor=0.1).sample(window, FUNNEL, seed=SEED, propensity=propensity)
    assert seen == window.filter(pl.col("trains_cart") & (pl.col("y_click") == 1))["number"].to_list()


# Refusals


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, math.nan])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    for make in (
        lambda: NegativeDown(objectives=("click",), rate=rate),
        lambda: AMAN(objective="cart", rate=rate),
        lambda: Unbias(objective="cart", floor=rate),
    ):
        with pytest.raises(UsageError, match=r"^E201 .*(rate|floor) is .*above 0 and up to 1"):
            make()


def test_a_factor_below_one_and_a_policy_of_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="factor is 0"):
        Oversampling(objective="cart", factor=0)
    with pytest.raises(UsageError, match="objectives is empty"):
        NegativeDown(objectives=(), rate=0.5)


@pytest.mark.parametrize(
    ("policy", "own_space", "message"),
    [
        (NegativeDown(objectives=("order",), rate=0.5), True, "'order' is no objective of the scenario:?"),
        (
            NegativeDown(objectives=("buy",), rate=0.5),
            False,
            "'buy' is given 'cart', .*joint.*down-sample 'click', or",
        ),
        (AMAN(objective="like", rate=0.5), True, "'like' is no .* that is given another.*: cart, buy, share"),
        (Unbias(objective="click", floor=0.5), True, "'click' is no .* that is given another"),
        (Oversampling(objective="order", factor=2), True, "choose from: click, cart, buy, share, like"),
    ],
)
def test_what_the_funnel_or_the_method_does_not_allow_is_refused(
    policy: Sampling, own_space: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=f"^E201 .*{message}"):
        policy.check(FUNNEL, own_space=own_space)


def test_what_they_allow_is_not(policy: Sampling) -> None:
    policy.check(FUNNEL, own_space=True)
    NegativeDown(objectives=("click", "like"), rate=0.5).check(FUNNEL, own_space=False)
