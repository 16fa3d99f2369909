"""What optimisers remember over the night is what their policy says, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.balancing.base import Balancer
from models.batch import Batch
from models.carry import Carry, Decay, Keep, Reset, carry
from models.lazy_adam import LazyAdam
from models.line import Line
from models.row_optimizer import RowOptimizer
from models.row_wise_adagrad import RowWiseAdagrad
from models.row_wise_adam import RowWiseAdam

DENSE, ROWS = "dense_optimizer.", "embedding_optimizer."


def told(line: Line) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in line.state().items()}


def learned(make_line: Callable[..., Line], make_batch: Callable[..., Batch], **changed: Any) -> Line:
    line = make_line(averaging=0.9, **changed)
    for seed in range(3):
        line.learn(make_batch(8, seed))
    return line


def test_reset_leaves_the_state_of_a_fresh_line_and_all_its_weights(
    balancer_class: type[Balancer], make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = learned(make_line, make_batch, balancer=balancer_class)
    before, fresh = told(line), told(make_line(averaging=0.9, balancer=balancer_class))
    carry(line, dense=Reset(), embedding=Reset())
    for name, tensor in line.state().items():
        expected = fresh if name.startswith((DENSE, ROWS)) else before
        assert torch.equal(tensor, expected[name]), name
    assert any(not torch.equal(before[name], fresh[name]) for name in before if name.startswith(DENSE))


@pytest.mark.parametrize("optimizer", [LazyAdam, RowWiseAdagrad, RowWiseAdam])
def test_decay_shrinks_sums_and_moments_and_leaves_counts(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch], optimizer: type[RowOptimizer]
) -> None:
    line = learned(make_line, make_batch, embedding_optimizer=optimizer)
    before = told(line)
    carry(line, dense=Decay(0.5), embedding=Decay(0.25))
    shrunk = {"exp_avg": 0.5, "exp_avg_sq": 0.5, "moment_RD": 0.25, "square_RD": 0.25, "sum_R": 0.25}
    shrunk["square_RK"] = 0.25
    seen = set()
    for name, tensor in line.state().items():
        slot = name.rpartition(".")[2] if name.startswith((DENSE, ROWS)) else ""
        seen.add(slot)
        assert torch.equal(tensor, before[name] * shrunk[slot] if slot in shrunk else before[name]), name
    assert {"exp_avg", "exp_avg_sq", "step"} < seen


def test_keep_changes_nothing_and_either_side_may_be_asked_alone(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    def changed(dense: Carry, embedding: Carry) -> set[str]:
        line = learned(make_line, make_batch)
        before = told(line)
        carry(line, dense=dense, embedding=embedding)
        moved = (name for name, tensor in line.state().items() if not torch.equal(tensor, before[name]))
        return {name.partition(".")[0] + "." for name in moved}

    assert changed(Keep(), Keep()) == set()
    assert changed(Reset(), Keep()) == {DENSE}
    assert changed(Keep(), Reset()) == {ROWS}


def test_after_decay_the_next_step_of_adagrad_is_that_of_the_equation(
    make_line: Callable[..., Line],
) -> None:
    """Written out: with G the sum of mean squares, the step is rate g / sqrt(gamma G + g^2)."""
    line = make_line(embedding_optimizer=RowWiseAdagrad, embedding_rate=0.1)
    rows, optimizer = torch.tensor([5]), line.embedding_optimizer
    optimizer.step(rows, torch.full((1, 4), 3.0))
    before = line.embedding.weight_RD[5].clone()
    carry(line, dense=Keep(), embedding=Decay(0.5))
    optimizer.step(rows, torch.full((1, 4), 2.0))
    step = before - line.embedding.weight_RD[5]
    assert step.tolist() == pytest.approx([0.1 * 2 / (0.5 * 9 + 4) ** 0.5] * 4)


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.1, float("nan")])
def test_a_decay_that_is_none_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="Reset"):
        Decay(gamma)
