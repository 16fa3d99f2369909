"""The population stability index against figures by hand, other code, and what chance must give."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import log

import numpy as np
import polars as pl
import pytest
from scipy.stats import entropy

from features.funnel import Funnel, Objective
from features.validation.drift import DRIFT, drift, histograms, psi
from features.validation.thinning import Thinned, thin
from features.view import Category, Dense, Feature

FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(hours=1)),
        Objective(name="order", log="order", given="click", window=timedelta(days=1)),
    ),
    click="click",
    conversion="order",
)
FEATURES = (
    Feature(name="price", expr=pl.col("price"), dtype=pl.Float64(), encoding=Dense(), description="Euros."),
    Feature(
        name="shade", expr=pl.col("shade"), dtype=pl.String(),
        encoding=Category(vocabulary="shade", capacity=8), description="Colour.",
    ),
    Feature(
        name="seen", expr=pl.col("seen"), dtype=pl.List(pl.Int64()),
        encoding=Category(vocabulary="seen", capacity=8, length=3), description="Items.",
    ),
)  # fmt: skip


def by_hand(counts: list[int], reference: list[int]) -> float:
    """The equation, bin by bin, with half a row more in each."""
    n, m, bins = sum(counts), sum(reference), len(counts)
    total = 0.0
    for count, other in zip(counts, reference, strict=True):
        p, q = (count + 0.5) / (n + bins / 2), (other + 0.5) / (m + bins / 2)
        total += (p - q) * log(p / q)
    return total


def test_the_index_of_two_bins_is_that_of_a_pocket_calculator() -> None:
    # p = (29.5 + 0.5)/(99 + 1) = 0.3 and 0.7, q = 0.6 and 0.4: (-0.3) ln 0.5 + 0.3 ln 1.75
    counts, reference = np.array([29.5, 69.5]), np.array([59.5, 39.5])
    assert psi(counts, reference) == pytest.approx(0.3 * 0.6931472 + 0.3 * 0.5596158, abs=1e-7)


def test_the_index_is_the_sum_of_both_divergences_of_scipy_and_symmetric() -> None:
    chance = np.random.default_rng(3)
    for bins in (2, 5, 22):
        counts, reference = chance.integers(0, 500, (2, bins))
        p, q = (counts + 0.5) / (counts + 0.5).sum(), (reference + 0.5) / (reference + 0.5).sum()
        expected = entropy(p, q) + entropy(q, p)
        assert psi(counts, reference) == pytest.approx(expected, rel=1e-12)
        assert psi(reference, counts) == pytest.approx(expected, rel=1e-12)
        assert psi(counts, counts) == 0


def test_two_samples_of_one_population_have_the_index_that_chance_gives() -> None:
    chance = np.random.default_rng(5)
    found = []
    for _ in range(200):
        rows, reference = (pl.Series("x", chance.normal(size=n)) for n in (4_000, 8_000))
        counts, other = histograms(rows, reference, quantity=True)
        assert len(counts) == len(other) == 11 - 1  # deciles; nothing is missing
        found.append(psi(counts, other))
    expected = 9 * (1 / 4_000 + 1 / 8_000)
    # 9/(n) chi-squared with 9 degrees: the mean of 200 has a relative error of sqrt(2/9/200) = 3 %.
    assert np.mean(found) == pytest.approx(expected, rel=0.12)


def test_bins_are_the_deciles_of_the_reference_and_one_for_missing_values() -> None:
    reference = pl.Series("x", [*map(float, range(1, 101)), None, None])
    rows = pl.Series("x", [-5.0, 10.0, 10.5, 91.0, 1e9, None, float("nan")])
    counts, other = histograms(rows, reference, quantity=True)
    assert other.tolist() == [10] * 10 + [2]
    assert counts.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2]


def test_a_quantity_of_few_values_is_counted_by_value() -> None:
    reference = pl.Series("x", [0, 0, 0, 1, 1, 7])
    counts, other = histograms(pl.Series("x", [7, 0, 3]), reference, quantity=True)
    assert (counts.tolist(), other.tolist()) == ([1, 0, 1, 1], [3, 2, 1, 0])  # 0, 1, 7, what is new


def test_codes_are_the_most_frequent_of_the_reference_and_the_rest() -> None:
    values = [f"v{n:02d}" for n in range(25) for _ in range(100 - n)]
    reference = pl.Series("shade", values)
    rows = pl.Series("shade", ["v00", "v19", "v20", "v24", "new", None])
    counts, other = histograms(rows, reference, quantity=False)
    assert other.tolist() == [100 - n for n in range(20)] + [80 + 79 + 78 + 77 + 76, 0]
    assert counts.tolist() == [1] + [0] * 18 + [1, 3, 1]


def samples(rows: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    click = chance.random(rows) < 0.3 + shift
    return pl.DataFrame(
        {
            "price": chance.normal(10 + 10 * shift, 2, rows),
            "shade": chance.choice(["red", "blue", "green"], rows),
            "seen": [[1, 2] if n % 2 else [] for n in range(rows)],
            "y_click": click.astype(np.int8),
            "final_click": np.arange(rows) % 4 > 0,
            "in_space_click": np.ones(rows, dtype=np.bool_),
            "y_order": (click & (chance.random(rows) < 0.5)).astype(np.int8),
            "final_order": np.zeros(rows, dtype=np.bool_),
            "in_space_order": click,
        }
    )


def test_the_table_tells_of_every_feature_and_label_with_the_rows_behind_it() -> None:
    ours, theirs = samples(4_000, 1, shift=0.2), samples(6_000, 2)
    found = drift(FEATURES, FUNNEL, ours, theirs, 3)
    assert found.columns == DRIFT.schema.names
    told = {(row["kind"], row["name"]): row for row in found.rows(named=True)}
    assert set(told) == {
        *(("feature", name) for name in ("price", "shade", "seen")), ("label", "click"), ("label", "order")
    }  # fmt: skip
    assert {row["reference_days"] for row in told.values()} == {3}
    edges = np.quantile(theirs["price"], np.arange(1, 10) / 10)
    counted = [np.bincount(np.digitize(frame["price"], edges)).tolist() for frame in (ours, theirs)]
    price = told["feature", "price"]
    assert price["psi"] == pytest.approx(by_hand(*counted), rel=0.02)  # numpy interpolates its quantiles
    assert (price["psi"] > 0.25, told["feature", "shade"]["psi"] < 0.01) == (True, True)
    # A list counts by its values; one that is empty, once as missing.
    assert told["feature", "seen"]["rows"] == 4_000 // 2 + 2 * (4_000 // 2)
    # A label counts where it is final by the clock: three rows of four; no order is final at all.
    settled = [frame.filter("final_click")["y_click"].to_numpy() for frame in (ours, theirs)]
    tallies = [[int((y == value).sum()) for value in (0, 1)] for y in settled]
    assert told["label", "click"]["psi"] == pytest.approx(by_hand(*tallies), rel=1e-12)
    assert told["label", "click"]["rows"] == 3_000
    assert (told["label", "order"]["psi"], told["label", "order"]["rows"]) == (None, 0)


def test_without_days_before_there_is_nothing_to_compare() -> None:
    ours = samples(100, 1)
    found = drift(FEATURES, FUNNEL, ours, ours.clear(), 0)
    assert found["psi"].null_count() == found.height == 5
    assert found.filter(kind="feature", name="price")["rows"].item() == 100


def test_a_thinned_day_keeps_every_nth_row_of_the_whole_day() -> None:
    begins = datetime(2026, 1, 5)
    day = pl.DataFrame({"at": [begins + timedelta(seconds=n) for n in range(1_000)]})
    for at_most in (1, 7, 100, 999, 1_000, 5_000):
        kept = thin(day.lazy(), day.height, at_most).collect(engine="streaming")["at"]
        step = -(-1_000 // at_most) if at_most < 1_000 else 1
        assert kept.to_list() == day["at"].to_list()[::step]
        assert kept.len() <= at_most
        for rows in (1, 3, 64, 2_000):
            passing = Thinned(day.height, ["at"], at_most)
            assert pl.concat(passing.watch(day.iter_slices(rows))).equals(day)
            assert passing.rows["at"].to_list() == kept.to_list()
