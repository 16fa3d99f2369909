"""Dropout of experts: what a gate says while it learns, and that scores are made without it.

Shapes: B rows, I input width, E experts.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architecture import Architecture
from models.batch import Batch
from models.choices import concrete
from models.gates import Gate, mix, weigh
from models.line import Line
from models.mmoe import MMoE
from models.ple import PLE

#: Those that say so; that no other has gates is asked below.
DROPPING = [cls for cls in concrete(Architecture) if "expert_dropout" in inspect.signature(cls).parameters]


def gate_of(weight_EI: torch.Tensor, dropout: float) -> Gate:
    """A gate with these weights."""
    gate = Gate(weight_EI.shape[1], len(weight_EI), dropout).to(weight_EI.dtype)
    gate.weight_EI.data.copy_(weight_EI)
    return gate


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.floats(0.01, 0.99), st.integers(0, 999))
def test_what_is_left_of_the_experts_of_a_row_shares_what_it_had(
    experts: int, rows: int, dropout: float, seed: int
) -> None:
    """``m_e w_e / sum_i m_i w_i`` by loops over rows and experts, where ``m`` are the gate's own draws."""
    drawn = torch.Generator().manual_seed(seed)
    gate = gate_of(torch.randn(experts, 3, generator=drawn, dtype=torch.float64), dropout)
    x_BI = torch.randn(rows, 3, generator=drawn, dtype=torch.float64)
    torch.manual_seed(seed)
    found_EB = gate(x_BI)
    torch.manual_seed(seed)
    left_EB = torch.rand(experts, rows, dtype=torch.float64) >= dropout
    for row in range(rows):
        asked = [math.exp(float(x_BI[row] @ weight_I)) for weight_I in gate.weight_EI.detach()]
        left = [e for e in range(experts) if left_EB[e, row]]
        if sum(asked[e] for e in left) < 1e-6 * sum(asked):
            left = list(range(experts))
        for e in range(experts):
            expected = asked[e] / sum(asked[i] for i in left) if e in left else 0.0
            assert float(found_EB[e, row].detach()) == pytest.approx(expected, rel=1e-12)


def test_every_expert_of_every_row_is_passed_over_as_often_as_is_asked() -> None:
    torch.manual_seed(0)
    passed_over = (gate_of(torch.zeros(5, 2), 0.2)(torch.ones(40_000, 2)) == 0).float().mean(dim=1)
    torch.testing.assert_close(passed_over, torch.full((5,), 0.2), atol=0.01, rtol=0)


def test_an_expert_with_no_say_learns_all_the_same() -> None:
    """Where the gate has settled on one expert, the other learns from the rows that pass over it."""

    def gradients(dropout: float) -> list[float]:
        torch.manual_seed(1)
        weight_EB = gate_of(torch.tensor([[12.0], [0.0]]), dropout)(torch.ones(1_000, 1))
        experts = [torch.ones(1_000, 1, requires_grad=True) for _ in range(2)]
        mix(weight_EB, experts).sum().backward()
        return [float(expert.grad.sum()) for expert in experts if expert.grad is not None]

    (settled, silent), (_, heard) = gradients(0.0), gradients(0.3)
    assert settled == pytest.approx(1_000, rel=1e-4)
    assert silent < 0.01
    assert heard == pytest.approx(1_000 * 0.3 * 0.7, rel=0.2)


def test_a_row_that_would_be_left_with_next_to_nothing_keeps_all() -> None:
    torch.manual_seed(2)
    gate = gate_of(torch.tensor([[200.0], [0.0]]), 0.5)
    weight_EB = gate(torch.ones(100, 1))
    weight_EB[0].sum().backward()
    torch.testing.assert_close(weight_EB, torch.tensor([[1.0], [0.0]]).expand(2, 100))
    assert gate.weight_EI.grad is not None
    assert gate.weight_EI.grad.isfinite().all()


def test_gates_that_are_asked_together_drop_each_on_its_own() -> None:
    gates = [gate_of(torch.zeros(3, 2), dropout) for dropout in (0.0, 0.5, 0.5)]
    torch.manual_seed(3)
    sure, first, second = weigh(gates, torch.ones(64, 2))
    torch.testing.assert_close(sure, torch.full((3, 64), 1 / 3))
    assert not torch.equal(first, second)
    assert (first == 0).any()


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_probability_that_is_none_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"probability in \[0, 1\)"):
        Gate(2, 2, dropout)


def test_every_gate_of_every_architecture_is_told(
    architecture_class: type[Architecture], make_network: Callable[..., Architecture]
) -> None:
    """An architecture that has gates takes ``expert_dropout`` and hands it to all of them."""
    told = partial(architecture_class, expert_dropout=0.25) if architecture_class in DROPPING else None
    network = make_network(told or architecture_class, 3, torch.Generator().manual_seed(0))
    gates = [module for module in network.modules() if isinstance(module, Gate)]
    assert bool(gates) == (told is not None)
    assert {gate.dropout for gate in gates} <= {0.25}


@pytest.mark.parametrize("architecture", DROPPING)
def test_lines_learn_with_dropout_and_score_without(
    architecture: type[Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
) -> None:
    sure, dropping, again = (
        make_line(architecture=partial(architecture, expert_dropout=dropout)) for dropout in (0.0, 0.5, 0.5)
    )
    batch = make_batch(64)
    for line in (sure, dropping, again):
        torch.manual_seed(4)
        line.predict(batch)  # scoring comes between: the next step drops experts again
        line.learn(batch)
        line.learn(batch)
    scores = [line.predict(batch).joint_BJ for line in (sure, dropping, again, again)]
    assert not torch.equal(scores[0], scores[1])
    assert torch.equal(scores[1], scores[2])
    assert torch.equal(scores[2], scores[3])
    # what it has learned, asked of a line that drops nothing
    told = make_line(architecture=architecture)
    told.restore(again.state())
    assert torch.equal(told.predict(batch).joint_BJ, scores[3])


@pytest.mark.parametrize("architecture", [partial(PLE, levels=((8, 4), (4,))), partial(MMoE, expert=(8, 4))])
def test_the_network_that_pairs_are_scored_with_drops_nothing(
    architecture: Callable[..., Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
) -> None:
    for averaging in (0.0, 0.9):
        line = make_line(architecture=partial(architecture, expert_dropout=0.5), averaging=averaging)
        line.learn(make_batch(64))
        assert line.network.training
        assert not any(module.training for module in line.averaged().modules())
