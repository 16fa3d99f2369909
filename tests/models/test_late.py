"""Policies for late conversions: what each converges to, on a population whose truth is written down.

An impression is clicked with probability PI and converts with THETA; a conversion is known at its first
reading with probability F of its age. Rows stand for the whole population, each with its exact share as its
weight, so nothing is drawn and the minimum is that of the expected loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from features.funnel import Funnel, Objective
from models.batch import Batch
from models.choices import concrete
from models.entire_space.base import EntireSpace, Labels
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.late.base import Late, Reading
from models.late.defer import Defer
from models.late.es_dfm import ESDFM
from models.late.fnw import FNW
from models.late.fsiw import FSIW
from models.late.likelihood import Likelihood
from models.late.naive import Naive
from models.late.relabel import Relabel
from models.late.soft_label import SoftLabel
from models.line import Line

PI, THETA = 0.1, 0.012
#: Share of the impressions by F at their first reading.
AGES = {0.3: 0.25, 0.5: 0.45, 0.85: 0.3}
FUNNEL = Funnel(
    (
        Objective(name="click", log="log", window=timedelta(hours=1)),
        Objective(name="conversion", log="log", given="click", window=timedelta(days=7)),
    ),
    click="click",
    conversion="conversion",
)
POLICIES = concrete(Late)
METHODS = [method for method in concrete(EntireSpace) if method.takes_open]
#: What the policies that put nothing right converge to, as a share of THETA: the mean of F over the readings.
#: Relabel reads a label three times: at F, at (1 + F) / 2 and when it is final.
LEVELS = {
    Naive: sum(f * share for f, share in AGES.items()),
    Relabel: sum((f + (1 + f) / 2 + 1) / 3 * share for f, share in AGES.items()),
}


@dataclass
class Row:
    weight: float
    click: int
    converted: int
    complete: float = 1.0
    open: bool = True
    again: bool = False


def first(complete: float, share: float) -> Iterator[Row]:
    """All impressions of an age as they are at their first reading."""
    yield Row(share * (1 - PI), 0, 0, complete)
    yield Row(share * THETA * complete, 1, 1, complete)
    yield Row(share * (PI - THETA * complete), 1, 0, complete)


def later(complete: float, share: float, known: float) -> Iterator[Row]:
    """All impressions of an age once more, when a share of the conversions is known."""
    yield Row(share * (1 - PI), 0, 0, complete, again=True)
    yield Row(share * THETA * known, 1, 1, complete, again=True)
    yield Row(share * (PI - THETA * known), 1, 0, complete, again=True)


def readings(policy: type[Late]) -> list[Row]:
    """What a line reads of the population, by what the policy asks for."""
    rows: list[Row] = []
    for complete, share in AGES.items():
        if "final" in policy.reads:
            rows += [Row(row.weight, row.click, row.converted, open=False) for row in first(1.0, share)]
        if {"early", "nightly"} & {*policy.reads}:
            rows += first(complete, share)
        if "turned" in policy.reads:
            rows += [Row(share * THETA * (1 - complete), 1, 1, complete, again=True)]
        if "ripe" in policy.reads:
            rows += later(complete, share, 1.0)
        if "nightly" in policy.reads:
            rows += [*later(complete, share, (1 + complete) / 2), *later(complete, share, 1.0)]
    return rows


def told(rows: list[Row], late: Late) -> Labels:
    """The rows as labels; a click is final at once and read once."""
    closed = [False] * len(rows)
    again = [row.again for row in rows]
    return Labels(
        torch.tensor([[row.click, row.converted] for row in rows], dtype=torch.float64),
        torch.tensor([[not row.again, True] for row in rows]),
        torch.tensor([row.weight for row in rows], dtype=torch.float64),
        reading=Reading(
            torch.tensor(list(zip(closed, [row.open for row in rows], strict=True))),
            torch.tensor(list(zip(closed, again, strict=True))),
            torch.tensor([[1.0, row.complete] for row in rows], dtype=torch.float64),
        ),
        late=late,
    )


def slope(method: EntireSpace, labels: Labels, logits_K: Tensor) -> Tensor:
    """What a step goes down by, shape (2,): all rows have the same logits."""
    logits_K = logits_K.clone().requires_grad_()
    loss = method.losses(logits_K.expand(len(labels.weight_B), 2), labels, FUNNEL).sum()
    return torch.autograd.grad(loss, logits_K)[0]


def turn(method: EntireSpace, labels: Labels, logits_K: Tensor) -> Tensor:
    """How the slope changes with the logits, (2, 2), weights that follow the line's own p included."""
    steps = 1e-5 * torch.eye(2, dtype=torch.float64)
    columns = [
        (slope(method, labels, logits_K + step) - slope(method, labels, logits_K - step)) / 2e-5
        for step in steps
    ]
    return torch.stack(columns, dim=1)


def converged(method: EntireSpace, labels: Labels) -> tuple[float, float]:
    """Where learning comes to rest: pCTR and pCTCVR."""
    logits_K = torch.tensor([-2.5, -1.5], dtype=torch.float64)
    for _ in range(60):
        step_K = torch.linalg.solve(turn(method, labels, logits_K), slope(method, labels, logits_K))
        logits_K = logits_K - step_K.clamp(-0.5, 0.5)
        if step_K.abs().max() < 1e-7:
            break
    assert step_K.abs().max() < 1e-7
    # a line that is pushed off comes back: the slope turns against every move
    assert (torch.linalg.eigvals(turn(method, labels, logits_K)).real > 0).all()
    click, conversion = method.log_probabilities(logits_K[None], FUNNEL)[1].exp()[0].tolist()
    return click, conversion


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_policy_comes_to_rest_where_its_equation_says(
    policy: type[Late], method: type[EntireSpace]
) -> None:
    """The truth within a thousandth, or the mean of F below it; with joint and with conditional losses."""
    click, conversion = converged(method(), told(readings(policy), policy()))
    assert click == pytest.approx(PI, rel=1e-3)
    assert conversion == pytest.approx(THETA * LEVELS.get(policy, 1.0), rel=1e-3)


@pytest.mark.parametrize(
    ("theta", "pi", "complete", "level"), [(0.01, 0.1, 0.5, 0.525), (0.004, 0.05, 0.3, 0.311)]
)
def test_f_on_clicked_rows_alone_puts_nothing_right(
    theta: float, pi: float, complete: float, level: float
) -> None:
    """Of the joint loss; t solves theta F / t = (pi - theta F) F / (1 - t F) + (1 - pi) / (1 - t)."""
    rows = [
        Row(1 - pi, 0, 0, open=False),
        Row(theta * complete, 1, 1, complete),
        Row(pi - theta * complete, 1, 0, complete),
    ]
    assert converged(ESMM(), told(rows, Likelihood()))[1] / theta == pytest.approx(level, abs=1e-3)
    rows[0] = Row(1 - pi, 0, 0, complete)
    assert converged(ESMM(), told(rows, Likelihood()))[1] == pytest.approx(theta, rel=1e-3)


def test_below_the_floor_a_soft_label_comes_out_low_and_a_likelihood_does_not() -> None:
    rows = [*first(0.1, 0.2), *first(0.5, 0.8)]
    soft = converged(ESMM(), told(rows, SoftLabel(floor=0.25)))[1]
    assert soft == pytest.approx(THETA * (0.2 * 0.1 / 0.25 + 0.8), rel=1e-3)
    assert converged(ESMM(), told(rows, Likelihood()))[1] == pytest.approx(THETA, rel=1e-3)


def test_a_wrong_f_costs_a_soft_label_its_level_and_es_dfm_next_to_nothing() -> None:
    """Half are known at the first reading where 0.8 is told: a soft label says 0.5 / 0.8 of the truth."""
    rows = [replace(row, complete=0.8) for row in first(0.5, 1.0)]
    for policy in (SoftLabel(), FSIW()):
        assert converged(ESMM(), told(rows, policy))[1] == pytest.approx(THETA * 0.5 / 0.8, rel=5e-3)
    rows.append(Row(THETA * 0.5, 1, 1, 0.8, again=True))
    assert converged(ESMM(), told(rows, ESDFM()))[1] == pytest.approx(THETA, rel=5e-3)
    # of clicked rows alone, of which many convert, it hangs more on F: the odds are off by what it leaves out
    conditional = converged(Masked(), told(rows, ESDFM()))[1]
    assert conditional == pytest.approx(THETA, rel=0.05)
    assert conditional != pytest.approx(THETA, rel=5e-3)


@pytest.mark.parametrize("policy", POLICIES)
def test_errors_and_gradients_are_finite_at_the_ends(policy: type[Late]) -> None:
    """No F and all of F, sure and impossible labels, in the float32 of training."""
    ends = torch.tensor([-80.0, -15.0, 0.0, 15.0, 80.0])
    logit, y, complete, again = (
        grid.flatten()[:, None]
        for grid in torch.meshgrid(
            ends,
            torch.tensor([0.0, 1.0]),
            torch.tensor([0.0, 0.5, 1.0]),
            torch.tensor([0.0, 1.0]),
            indexing="ij",
        )
    )
    logit.requires_grad_()
    reading = Reading(torch.ones_like(y, dtype=torch.bool), again == 1, complete)
    hit, miss = torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)
    errors = policy().errors(hit, miss, y, reading)
    assert errors.isfinite().all()
    errors.sum().backward()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_final_costs_its_cross_entropy(policy: type[Late]) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(50, 2)))
    y = torch.from_numpy(rng.integers(0, 2, size=(50, 2))).double()
    everything = torch.ones(50, 2, dtype=torch.bool)
    closed = Reading(~everything, ~everything, torch.full((50, 2), 0.3))
    for reading in (None, closed):
        labels = Labels(y, everything, torch.ones(50).double(), reading=reading, late=policy())
        expected = binary_cross_entropy_with_logits(logits, y, reduction="none")
        torch.testing.assert_close(labels.errors_of(logits), expected)


def test_each_equation_on_one_row() -> None:
    """P = 0.2, F = 0.4; numbers worked out by hand."""
    hit, miss = torch.tensor([[0.2]]).log(), torch.tensor([[0.8]]).log()
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    l1, l0 = 1.6094379, 0.2231436
    expected: dict[type[Late], tuple[float, float, float]] = {  # y = 1, y = 0, and y = 1 once more
        Naive: (l1, l0, l1),
        SoftLabel: (2.5 * l1 - 1.5 * l0, l0, 2.5 * l1 - 1.5 * l0),
        Likelihood: (l1, 0.0833816, l1),  # -log 0.92
        FSIW: (2.5 * l1, l0 * 0.8 / 0.92, 2.5 * l1),
        ESDFM: (1.12 * l1, 1.12 * l0 * 0.8 / 0.92, 1.12 * l1),
        FNW: (1.2 * l1 + 0.96 * l0, 0.96 * l0, 1.2 * l1),
        Defer: (l1 * 0.2 / 0.14, l0 * 0.8 / 0.86, l1 * 0.2 / 0.14),
    }
    for policy, costs in expected.items():
        for cost, y, again in zip(costs, (one, zero, one), (False, False, True), strict=True):
            reading = Reading(one == 1, torch.tensor([[again]]), 0.4 * one)
            found = policy().errors(hit, miss, y, reading)
            assert found.item() == pytest.approx(cost, rel=1e-5), policy


def test_a_policy_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hours must not be below 0, got -1"):
        Naive(hours=-1)
    for policy in (SoftLabel, FSIW):
        with pytest.raises(ValueError, match=r"floor must lie in \(0, 1\], got 0"):
            policy(floor=0.0)


def test_a_line_learns_open_labels_by_its_policy(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    """The loss that a step tells is that of the policy: here half of the conversions can be known."""
    batch = make_batch(64)
    y_BK, trains_BK = batch.labels
    open_BK = trains_BK & torch.tensor([False, True, False, False])
    half = replace(batch, reading=Reading(open_BK, open_BK & False, torch.full_like(y_BK, 0.5)))
    waits, soft = make_line(method=Masked()), make_line(method=Masked(), late=SoftLabel())
    p_B = soft.predict(batch).conditional_BJ[:, 1].exp()
    final_K, open_K = waits.learn(batch), soft.learn(half)
    torch.testing.assert_close(open_K[[0, 2, 3]], final_K[[0, 2, 3]])
    inside = trains_BK[:, 1] & (y_BK[:, 0] == 1)
    p_N, target_N, weight_N = p_B[inside], 2 * y_BK[inside, 1], batch.weight_B[inside]
    error_N = -(target_N * p_N.log() + (1 - target_N) * (1 - p_N).log())
    assert open_K[1].item() == pytest.approx(((weight_N * error_N).sum() / weight_N.sum()).item(), rel=1e-4)
    assert open_K[1] != pytest.approx(final_K[1].item(), rel=0.1)
