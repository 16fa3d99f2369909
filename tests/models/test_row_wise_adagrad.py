"""Row-wise Adagrad against its equation, written out row by row in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.batch import Batch
from models.line import Line
from models.row_wise_adagrad import RowWiseAdagrad


def by_hand(weight: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray]], rate: float) -> np.ndarray:
    weight, total = weight.astype(np.float64).copy(), np.zeros(len(weight))
    for rows, grads in steps:
        for row in set(rows.tolist()) - {0}:
            g = grads[rows == row].astype(np.float64).sum(axis=0)
            total[row] += np.mean(g**2)
            weight[row] -= rate * g / (np.sqrt(total[row]) + 1e-8)
    return weight


@pytest.mark.parametrize("size", [1e-6, 1e-2, 10.0])
def test_it_moves_the_rows_of_the_batch_as_its_equation_says(size: float) -> None:
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(12, 3)).astype(np.float32)
    steps = [(rng.integers(0, 9, 20), (size * rng.normal(size=(20, 3))).astype(np.float32)) for _ in range(6)]
    weight_RD = torch.from_numpy(weight.copy())
    optimizer = RowWiseAdagrad(weight_RD, rate=0.1)
    for rows, grads in steps:
        optimizer.step(torch.from_numpy(rows), torch.from_numpy(grads))
    np.testing.assert_allclose(weight_RD, by_hand(weight, steps, 0.1), rtol=2e-4, atol=2e-5)
    never = [row for row in range(12) if row == 0 or not any(row in rows for rows, _ in steps)]
    np.testing.assert_array_equal(weight_RD[never], weight[never])
    assert not optimizer.sum_R[never].any()


def test_a_row_without_a_gradient_stays() -> None:
    optimizer = RowWiseAdagrad(torch.ones(3, 2), rate=0.1)
    optimizer.step(torch.tensor([1, 0]), torch.zeros(2, 2))
    assert torch.equal(optimizer.weight_RD, torch.ones(3, 2))


def test_a_line_with_it_goes_on_from_its_state_to_the_bit_and_forgets_rows(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, other = (make_line(embedding_optimizer=RowWiseAdagrad, seed=seed) for seed in (1, 2))
    line.learn(make_batch(16, 0))
    other.restore(line.state())
    for seed in range(1, 4):
        assert torch.equal(line.learn(make_batch(16, seed)), other.learn(make_batch(16, seed)))
    assert torch.equal(line.embedding.weight_RD, other.embedding.weight_RD)
    row = int(line.embedding_optimizer.state()["sum_R"].argmax())
    line.reset_rows(torch.tensor([row]), 1)
    assert line.embedding_optimizer.state()["sum_R"][row] == 0
