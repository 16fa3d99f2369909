"""A pass counts what it did, and learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch

from features.funnel import Funnel
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.entire_space.base import EntireSpace
from models.entire_space.masked import Masked
from models.finite import NotFinite
from models.line import Line
from models.metrics import auc, pcoc
from models.ple import PLE
from models.score import probabilities
from models.towers import Towers
from models.train import train_one_pass


def test_the_report_counts_rows_steps_and_rows_that_trained(
    method_class: type[EntireSpace], make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, twin = make_line(method=method_class()), make_line(method=method_class())
    batches = [make_batch(16, 0), make_batch(5, 1)]
    report = train_one_pass(line, batches)
    assert (report.rows, report.steps) == (21, 2)
    total, count = np.zeros(4), np.zeros(4, dtype=int)
    for batch in batches:
        mine = twin.method.counts(*batch.labels, twin.funnel).sum(dim=0).numpy()
        total, count = total + twin.learn(batch).numpy() * mine, count + mine
    assert list(report.trained.values()) == count.tolist()
    assert list(report.mean_loss.values()) == pytest.approx((total / count).tolist())


def test_masked_counts_rows_inside_the_space(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    y = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]], dtype=np.float32)
    batch = make_batch(3, y=y, trains=np.array([[1, 1, 0, 1]] * 3, dtype=np.bool_))
    report = train_one_pass(make_line(method=Masked()), [batch])
    assert report.trained == {"a": 3, "b": 2, "c": 0, "d": 3}
    assert report.mean_loss["c"] is None


def test_an_empty_stream_is_a_pass_of_no_steps(make_line: Callable[..., Line]) -> None:
    report = train_one_pass(make_line(), [])
    assert (report.rows, report.steps, set(report.mean_loss.values())) == (0, 0, {None})


def test_a_bad_batch_stops_the_pass_at_its_step(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line()

    def stream() -> Iterator[Batch]:
        yield make_batch(4)
        yield make_batch(4, dense=np.full((4, 2), np.nan, dtype=np.float32))
        raise AssertionError("the stream was read past the bad batch")

    with pytest.raises(NotFinite, match="step 2"):
        train_one_pass(line, stream())
    assert line.steps == 1


@pytest.mark.parametrize(
    "architecture", [partial(Towers, layers=(16, 8)), partial(PLE, levels=((16,), (8,)), layers=(8,))]
)
def test_one_pass_finds_planted_effects(
    make_tree: Callable[..., Funnel],
    method_class: type[EntireSpace],
    architecture: Callable[..., torch.nn.Module],
) -> None:
    """Effects of users and items are planted; the score must rank held-out rows almost as the truth does."""
    rng = np.random.default_rng(0)
    effect = rng.normal(0, 1.2, (101, 2))
    rows = rng.integers(1, 101, (20_000, 2))
    logit = effect[rows].sum(axis=1) - (1.0, 0.5)
    p = 1 / (1 + np.exp(-logit))
    y = (rng.random((20_000, 2)) < p).astype(np.float32)
    y[:, 1] *= y[:, 0]
    funnel = make_tree(None, 0)

    def part(start: int, stop: int) -> Batch:
        size = stop - start
        return Batch.from_numpy(
            {
                "rows": rows[start:stop],
                "bag_rows": np.zeros((size, 0), dtype=np.int64),
                "dense": np.zeros((size, 0), dtype=np.float32),
                "y": y[start:stop],
                "trains": np.ones((size, 2), dtype=np.bool_),
            }
        )

    line = Line.fresh(
        InputSpec(num_rows=101, num_fields=2),
        funnel,
        architecture=architecture,
        method=method_class(),
        balancer=Static,
        dim=4,
        dense_rate=1e-2,
        embedding_rate=2e-2,
        seed=0,
    )
    train_one_pass(line, (part(start, start + 128) for start in range(0, 16_000, 128)))
    scores = probabilities(line, part(16_000, 20_000))
    for column, k, truth in (("pctr", 0, p[16_000:, 0]), ("pctcvr", 1, p[16_000:].prod(axis=1))):
        found, best = auc(y[16_000:, k], scores[column]), auc(y[16_000:, k], truth)
        assert found is not None
        assert best is not None
        assert best - 0.03 < found < best + 0.01
        assert pcoc(y[16_000:, k], scores[column]) == pytest.approx(
            1, abs=0.3 if method_class.loose else 0.15
        )
