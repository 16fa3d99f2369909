"""A stream of batches: every row that trains, once, in an order that depends on the seed alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.batches
from features.batches import blocks, fresh_rows, stretches, training_batches
from features.encode import Encoder, Layout
from features.id_maps import empty_map
from features.sampling.aman import AMAN
from features.sampling.base import Sampling
from features.sampling.negative_down import NegativeDown
from features.sampling.oversampling import Oversampling
from features.sampling.unbias import Unbias
from features.scenarios.shop import SCENARIO
from features.view import Dense, Feature

#: So wide that no number is cut off.
SPREAD = 1024.0
NUMBER = Feature(
    name="number",
    expr=pl.col("number"),
    dtype=pl.Int64(),
    encoding=Dense(spread=SPREAD),
    description="The row's own.",
)
TINY = replace(SCENARIO, context=(NUMBER,), views=(), on_demand=())
ENCODER = Encoder(Layout.of(TINY.features), empty_map())
T0 = datetime(2026, 3, 27)
HOUR = timedelta(hours=1)


def rows(height: int) -> pl.DataFrame:
    """Rows that carry their number in every column, in a way that differs from column to column."""
    numbers = np.arange(height)
    return pl.DataFrame(
        {
            "number": numbers,
            "exposed_at": numbers // 3,  # several rows share an instant
            "y_click": (numbers % 2).astype(np.int8),
            "y_conversion": (numbers % 4 == 1).astype(np.int8),
            "trains_click": numbers % 3 == 0,
            "trains_conversion": numbers % 5 == 0,
            "weight": (numbers / 8).astype(np.float32),
        }
    )


def batches(
    height: int, *, batch_rows: int, window_rows: int, seed: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    return training_batches(
        rows(height).lazy(), TINY, ENCODER, batch_rows=batch_rows, window_rows=window_rows, seed=seed
    )


def numbers(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The rows' numbers, from spreads back to units."""
    return np.rint(batch["dense"][:, 0] * SPREAD).astype(int)


def order(height: int, *, batch_rows: int, window_rows: int, seed: int = 0) -> list[int]:
    made = batches(height, batch_rows=batch_rows, window_rows=window_rows, seed=seed)
    return [int(number) for batch in made for number in numbers(batch)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 200), st.integers(1, 64), st.integers(1, 250))
def test_every_row_comes_once_and_keeps_its_labels_masks_and_weight(
    height: int, batch_rows: int, window_rows: int
) -> None:
    seen: list[int] = []
    for batch in batches(height, batch_rows=batch_rows, window_rows=window_rows):
        n = numbers(batch)
        assert 0 < len(n) <= batch_rows
        assert (batch["y"] == np.stack([n % 2, n % 4 == 1], axis=1)).all()
        assert (batch["trains"] == np.stack([n % 3 == 0, n % 5 == 0], axis=1)).all()
        assert (batch["weight"] == n / 8).all()
        # Shuffled within a window: a batch never mixes two.
        assert len(set(n // window_rows)) == 1
        seen += n.tolist()
    assert sorted(seen) == list(range(height))
    starts = [number // window_rows for number in seen]
    assert starts == sorted(starts)


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    first = order(500, batch_rows=64, window_rows=250, seed=1)
    assert first == order(500, batch_rows=64, window_rows=250, seed=1)
    assert first != order(500, batch_rows=64, window_rows=250, seed=2)
    assert first[:250] != list(range(250))


def test_the_size_of_a_batch_does_not_change_the_order() -> None:
    assert order(300, batch_rows=7, window_rows=100) == order(300, batch_rows=300, window_rows=100)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.integers(1, 64), st.integers(1, 250), st.integers(0, 30))
def test_batches_that_are_skipped_leave_the_others_as_they_would_be(
    height: int, batch_rows: int, window_rows: int, skip: int
) -> None:
    def made(skip: int) -> list[list[int]]:
        parts = (rows(height).lazy(), rows(70).lazy())
        found = training_batches(
            parts, TINY, ENCODER, batch_rows=batch_rows, window_rows=window_rows, seed=3, skip=skip
        )
        return [numbers(batch).tolist() for batch in found]

    whole = made(0)
    assert sorted(n for batch in whole for n in batch) == sorted([*range(height), *range(70)])
    assert made(skip) == whole[skip:]


def test_of_several_frames_each_is_shuffled_after_the_one_before() -> None:
    parts = (rows(100).lazy(), rows(300).filter(pl.col("number") >= 100).lazy())
    made = training_batches(parts, TINY, ENCODER, batch_rows=64, window_rows=1_000, seed=3)
    seen = [int(number) for batch in made for number in numbers(batch)]
    assert set(seen[:100]) == set(range(100))
    assert seen[:100] != list(range(100))
    assert sorted(seen[100:]) == list(range(100, 300))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 200), st.integers(1, 50), st.integers(1, 60), st.integers(1, 4))
def test_stretches_are_the_rows_in_order_whatever_is_asked_of_them(
    height: int, stretch: int, block_rows: int, every: int
) -> None:
    kept = rows(height).filter(pl.col("number") % every == 0)
    lazy = rows(height).lazy().with_columns(pl.col("number") + 0).filter(pl.col("number") % every == 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.batches, "STRETCH", stretch)
        parts = [part.collect() for part in stretches(lazy)]
        made = list(blocks(stretches(lazy), block_rows))
    # cut between instants, so a part may be larger by the rows of one
    assert all(part.height < 2 * stretch + 3 for part in parts)
    for found in (parts, made):
        assert pl.concat([kept.clear(), *found]).equals(kept)
    assert all(block.height == block_rows for block in made[:-1])


@pytest.mark.parametrize("block_rows", [1, 7, 50, 99, 100, 101, 1_000])
def test_blocks_are_the_rows_in_order_and_full_but_for_the_last(block_rows: int) -> None:
    whole = rows(100)
    made = list(blocks(whole.lazy(), block_rows))
    assert pl.concat(made).equals(whole)
    assert {block.height for block in made[:-1]} <= {block_rows}
    assert 0 < made[-1].height <= block_rows


def test_a_row_trains_the_objectives_whose_labels_became_final_in_this_run() -> None:
    """Windows 1 h and 2 days, 2 h to cancel, lateness 1 h: final after 2 h (click) and 52 h (purchase)."""
    hours = list(range(0, 120))
    samples = pl.LazyFrame(
        {
            "exposed_at": [T0 + hour * HOUR for hour in hours],
            "arrived_at": [T0 + hour * HOUR for hour in hours],
        },
        schema={"exposed_at": pl.Datetime("us"), "arrived_at": pl.Datetime("us")},
    ).with_row_index("hour")
    since, until = T0 + 72 * HOUR, T0 + 96 * HOUR
    found = fresh_rows(samples, SCENARIO, since, until).collect()
    assert found.select("hour", "trains_click", "trains_conversion").rows() == [
        (hour, 72 <= hour + 2 < 96, 72 <= hour + 52 < 96)
        for hour in hours
        if 72 <= hour + 2 < 96 or 72 <= hour + 52 < 96
    ]


def sampled_batches(
    height: int, policy: Sampling, *, window_rows: int, seed: int
) -> list[dict[str, np.ndarray]]:
    named = rows(height).with_columns(impression_id=pl.format("imp-{}", "number"))
    made = training_batches(
        named.lazy(),
        TINY,
        ENCODER,
        batch_rows=64,
        window_rows=window_rows,
        seed=seed,
        sampling=policy,
        sampling_seed=5,
        propensity=lambda frame, objective: pl.repeat(0.5, frame.height, eager=True),
    )
    return list(made)


@pytest.mark.parametrize(
    "policy",
    [
        NegativeDown(objectives=("click",), rate=0.3),
        AMAN(objective="conversion", rate=0.5),
        Oversampling(objective="conversion", factor=3),
        Unbias(objective="conversion", floor=0.25),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_what_is_sampled_depends_neither_on_the_windows_nor_on_the_shuffle(policy: Sampling) -> None:
    def told(window_rows: int, seed: int) -> Counter[tuple[float, ...]]:
        """Number, labels, masks and weight of every row that is handed out."""
        return Counter(
            (float(number), *y, *trains, weight)
            for batch in sampled_batches(600, policy, window_rows=window_rows, seed=seed)
            for number, y, trains, weight in zip(
                numbers(batch),
                batch["y"].tolist(),
                batch["trains"].tolist(),
                batch["weight"].tolist(),
                strict=True,
            )
        )

    whole = told(600, seed=0)
    assert whole == told(7, seed=0) == told(250, seed=9)
    assert sum(whole.values()) != 600


def test_copies_of_a_row_meet_other_rows_in_the_shuffle() -> None:
    """Otherwise a rare positive would fill whole batches."""
    (first, *_) = sampled_batches(
        5_000, Oversampling(objective="conversion", factor=5), window_rows=5_000, seed=1
    )
    assert len(set(numbers(first).tolist())) > 0.9 * len(numbers(first))


def test_a_window_of_which_nothing_is_drawn_makes_no_batch() -> None:
    none = NegativeDown(objectives=("click",), rate=1e-9)
    made = sampled_batches(100, none, window_rows=1, seed=0)
    # odd rows were clicked, and of these every third and every fifth trains something
    seen = sorted(int(number) for batch in made for number in numbers(batch))
    assert seen == [n for n in range(100) if n % 2 and (n % 3 == 0 or n % 5 == 0)]
