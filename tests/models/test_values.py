"""Values beside the binary objectives: the loss by hand, every method with them, units, and no leak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from features.funnel import Funnel, Objective
from models.architecture import Architecture
from models.balancing.base import Leaves
from models.balancing.geometric import Geometric
from models.balancing.static import Static
from models.balancing.uncertainty import Uncertainty
from models.batch import Batch
from models.checkpoint import load, save
from models.entire_space.base import EntireSpace, Labels, Term
from models.entire_space.masked import Masked
from models.entire_space.values import Objectives
from models.heads import Heads
from models.line import Line, StateMismatch
from models.metrics import evaluate
from models.score import probabilities
from models.single_task import SingleTask
from models.towers import Towers
from models.train import train_one_pass

HOUR = timedelta(hours=1)


def value(name: str, given: str | None, scale: float = 1.0) -> Objective:
    return Objective(name=name, log="log", given=given, window=HOUR, kind="value", value="ms", scale=scale)


#: Two binary objectives with a value before, between and behind them.
FUNNEL = Funnel(
    (
        value("dwell", None),
        Objective(name="click", log="log", window=HOUR),
        value("watch", "click", 1000.0),
        Objective(name="order", log="log", given="click", window=HOUR),
        value("spend", "order", 100.0),
    ),
    click="click",
    conversion="order",
)
PARENTS = (None, None, 1, 1, 3)
VALUES = (0, 2, 4)


def told(rows: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Labels, values of what happened, masks and weights."""
    rng = np.random.default_rng(seed)
    y = rng.normal(3, 2, (rows, 5))
    y[:, 1] = rng.random(rows) < 0.6
    y[:, 3] = y[:, 1] * (rng.random(rows) < 0.5)
    y[:, 2] *= y[:, 1]
    y[:, 4] *= y[:, 3]
    return {"y": y, "trains": rng.random((rows, 5)) < 0.7, "weight": rng.uniform(0.2, 3, rows)}


def labels(arrays: dict[str, np.ndarray]) -> Labels:
    return Labels(*(torch.from_numpy(arrays[name]) for name in ("y", "trains", "weight")))


def logits_of(heads: int, rows: int = 40) -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).normal(0, 2, (rows, heads)))


def test_a_value_costs_the_weighted_mean_of_its_squared_errors_over_the_rows_of_its_space() -> None:
    """PLE equation 8 row by row, the gradient 2 (f - y) w / sum w of its rows with it."""
    objectives, arrays = Objectives(Masked(), FUNNEL), told()
    logits_BH = logits_of(5).requires_grad_()
    losses_K = objectives.losses(logits_BH, labels(arrays))
    f, y, trains, w = logits_BH.detach().numpy(), arrays["y"], arrays["trains"], arrays["weight"]
    for k in VALUES:
        total = mass = 0.0
        own = [i for i in range(40) if trains[i, k] and (PARENTS[k] is None or y[i, PARENTS[k]] == 1)]
        for i in own:
            total += w[i] * (f[i, k] - y[i, k]) ** 2
            mass += w[i]
        assert losses_K[k].item() == pytest.approx(total / mass, rel=1e-12)
        (found_BH,) = torch.autograd.grad(losses_K[k], logits_BH, retain_graph=True)
        want = np.zeros((40, 5))
        want[own, k] = 2 * w[own] * (f[own, k] - y[own, k]) / mass
        np.testing.assert_allclose(found_BH, want, rtol=1e-12)
        assert objectives.counts(torch.from_numpy(y), torch.from_numpy(trains))[:, k].tolist() == [
            i in own for i in range(40)
        ]


def test_a_method_sees_the_binary_objectives_as_if_there_were_no_others(
    method_class: type[EntireSpace],
) -> None:
    """Its losses, rows and probabilities are to the bit those of the funnel without values."""
    method, arrays = method_class(), told()
    objectives, alone = Objectives(method, FUNNEL), [1, 3]
    logits_BH = logits_of(len(objectives.heads))
    own_BH = torch.cat([logits_BH[:, alone], logits_BH[:, 5:]], dim=1)
    own = labels({name: a[:, alone] if a.ndim == 2 else a for name, a in arrays.items()})
    binary = Funnel(tuple(FUNNEL.objectives[k] for k in alone), click="click", conversion="order")
    assert FUNNEL.binary == binary
    assert binary.binary is binary
    losses_K = objectives.losses(logits_BH, labels(arrays))
    assert torch.equal(losses_K[alone], method.losses(own_BH, own, binary))
    counts_BK = objectives.counts(labels(arrays).y_BK, labels(arrays).trains_BK)
    assert torch.equal(counts_BK[:, alone], method.counts(own.y_BK, own.trains_BK, binary))
    found = objectives.predictions(logits_BH)
    conditional_BJ, joint_BJ = method.log_probabilities(own_BH, binary)
    assert torch.equal(found.conditional_BJ, conditional_BJ)
    assert torch.equal(found.joint_BJ, joint_BJ)
    assert torch.equal(found.value_BV, logits_BH[:, VALUES])


class Imputing(Masked):
    """A method with two heads of its own: one that follows the order, and one that follows that one."""

    def heads(self, funnel: Funnel) -> Heads:
        return Heads.of(funnel, (funnel.names.index("order"), len(funnel)))

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> list[Term]:
        added = (logits_BH[:, len(funnel)] + 3 * logits_BH[:, len(funnel) + 1]).sum()
        return [*super().terms(logits_BH[:, : len(funnel)], labels, funnel), Term("own", 0, added)]


def test_heads_of_a_method_come_behind_all_objectives_and_keep_what_they_follow() -> None:
    objectives = Objectives(Imputing(), FUNNEL)
    assert objectives.heads == Heads((*PARENTS, 3, 5), 5)
    logits_BH = logits_of(7).requires_grad_()
    objectives.losses(logits_BH, labels(told())).sum().backward()
    assert logits_BH.grad[:, 5:].unique(dim=0).tolist() == [[1.0, 3.0]]


def test_what_does_not_train_is_never_looked_at(method_class: type[EntireSpace]) -> None:
    """A sum that is not final may be anything, also NaN and infinite."""
    objectives, arrays = Objectives(method_class(), FUNNEL), told()
    arrays["trains"][:, (1, 3)] = True  # the labels that spaces ask for
    logits_BH = logits_of(len(objectives.heads)).requires_grad_()
    known_K = objectives.losses(logits_BH, labels(arrays))
    for poison in (np.nan, np.inf):
        unknown = arrays | {"y": np.where(arrays["trains"], arrays["y"], poison)}
        losses_K = objectives.losses(logits_BH, labels(unknown))
        assert torch.equal(losses_K, known_K)
        (grad_BH,) = torch.autograd.grad(losses_K.sum(), logits_BH)
        assert torch.isfinite(grad_BH).all()


def test_a_value_without_rows_costs_nothing() -> None:
    objectives, arrays = Objectives(Masked(), FUNNEL), told()
    arrays["y"][:, 3] = 0  # nothing was ordered
    logits_BH = logits_of(5).requires_grad_()
    losses_K = objectives.losses(logits_BH, labels(arrays))
    assert losses_K[4] == 0
    losses_K.sum().backward()
    assert not logits_BH.grad[:, 4].any()
    assert logits_BH.grad[:, :4].any(dim=0).all()


def watched(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """Impressions whose watch time is linear in two quantities wherever they were clicked."""
    x = rng.standard_normal((rows, 2)).astype(np.float32)
    click = rng.random(rows) < 1 / (1 + np.exp(-x[:, 0]))
    order = click & (rng.random(rows) < 0.5)
    return {
        "rows": np.ones((rows, 3), dtype=np.int64),
        "bag_rows": np.zeros((rows, 6), dtype=np.int64),
        "dense": x,
        "y": np.stack([click, order, click * watch_of(x)], axis=1).astype(np.float32),
        "trains": np.full((rows, 3), True),
    }


def watch_of(x: np.ndarray) -> np.ndarray:
    return 1 + 0.5 * x[:, 0] - 0.3 * x[:, 1]


#: Click, order given the click, and a value given the click.
SMALL = Funnel((FUNNEL["click"], FUNNEL["order"], FUNNEL["watch"]), click="click", conversion="order")


def test_a_line_learns_a_linear_value_from_the_rows_whose_parent_happened(
    make_line: Callable[..., Line],
) -> None:
    line = make_line(funnel=SMALL, architecture=partial(Towers, layers=(8,)), dense_rate=5e-2)
    rng, rows = np.random.default_rng(0), 60 * 256
    untrained = probabilities(line, Batch.from_numpy(watched(rng, 500)))["e_watch_given_click"]
    report = train_one_pass(line, (Batch.from_numpy(watched(rng, 256)) for _ in range(60)))
    new = watched(rng, 500)
    scores = probabilities(line, Batch.from_numpy(new))
    assert untrained.abs().mean() < 0.5
    assert np.abs(scores["e_watch_given_click"].numpy() - watch_of(new["dense"])).mean() < 0.1
    assert report.trained["click"] == rows
    assert report.trained["watch"] == pytest.approx(rows / 2, rel=0.05)
    # over all impressions it is right on the whole, as no click is selected by what the row does not tell
    assert scores["e_watch"].mean().item() == pytest.approx(new["y"][:, 2].mean(), abs=0.1)


def test_a_line_trains_and_scores_values_with_every_method(
    method_class: type[EntireSpace], make_line: Callable[..., Line]
) -> None:
    line, rng = make_line(funnel=SMALL, method=method_class()), np.random.default_rng(0)
    batch = Batch.from_numpy(watched(rng, 64))
    first_K = line.learn(batch)
    for _ in range(3):
        last_K = line.learn(batch)
    assert (last_K < first_K).all()
    scores = probabilities(line, batch)
    assert all(torch.isfinite(score).all() for score in scores.values())
    assert torch.equal(scores["e_watch"], scores["pctr"] * scores["e_watch_given_click"])


def test_a_value_is_learned_with_every_network(
    architecture_class: Callable[..., Architecture], make_line: Callable[..., Line]
) -> None:
    """One row is a batch like any other, and the head of a value is moved by it."""
    line = make_line(funnel=FUNNEL, architecture=architecture_class, method=Masked())
    row = watched(np.random.default_rng(0), 1)
    row["y"] = np.array([[2.0, 1.0, 7.0, 1.0, -3.0]], dtype=np.float32)
    row["trains"] = np.full((1, 5), True)
    batch = Batch.from_numpy(row)
    before = line.predict(batch).value_BV
    losses_K = line.learn(batch)
    np.testing.assert_allclose(losses_K[list(VALUES)], (before[0] - torch.tensor([2.0, 7.0, -3.0])) ** 2)
    after = line.predict(batch).value_BV
    assert ((after - before).sign() == torch.tensor([1.0, 1.0, -1.0])).all()


def test_published_columns_tell_values_per_event_and_per_impression(make_line: Callable[..., Line]) -> None:
    line = make_line(funnel=FUNNEL)
    logits_BK = logits_of(5).float()
    line.network.forward = lambda *read: logits_BK  # type: ignore[method-assign]
    scores = probabilities(line, Batch.from_numpy(watched(np.random.default_rng(0), 40)))
    dwell, click, watch, order, spend = logits_BK.double().numpy().T
    click, order = 1 / (1 + np.exp(-click)), 1 / (1 + np.exp(-order))
    expected = {
        "pctr": click,
        "pcvr": order,
        "pctcvr": click * order,
        "e_dwell": dwell,
        "e_watch": click * watch,
        "e_watch_given_click": watch,
        "e_spend": click * order * spend,
        "e_spend_given_order": spend,
    }
    assert list(scores) == list(expected) == [column.name for column in FUNNEL.score_columns]
    for name, want in expected.items():
        assert scores[name].dtype == torch.float32
        np.testing.assert_allclose(scores[name], want, rtol=2e-6, err_msg=name)


def test_sampled_negatives_shift_no_value(make_line: Callable[..., Line]) -> None:
    batch = Batch.from_numpy(watched(np.random.default_rng(0), 64))
    plain, thinned = (
        make_line(funnel=SMALL, method=Masked(), negative_rates=rates) for rates in (None, (0.1, 0.5, 1.0))
    )
    one_K, other_K = plain.learn(batch), thinned.learn(batch)
    assert one_K[2] == other_K[2]
    assert (one_K[:2] != other_K[:2]).all()
    with pytest.raises(ValueError, match=r"\['watch'\] are values and have no negatives"):
        make_line(funnel=SMALL, negative_rates=(1.0, 1.0, 0.5))


def test_a_state_continues_to_the_bit_and_keeps_its_unit(
    make_line: Callable[..., Line], tmp_path: Path
) -> None:
    make = partial(make_line, funnel=SMALL, balancer=Uncertainty)
    days = [Batch.from_numpy(watched(np.random.default_rng(seed), 32)) for seed in range(4)]
    undisturbed, first, second = make(), make(), make(seed=99)
    train_one_pass(undisturbed, days)
    train_one_pass(first, days[:2])
    save(tmp_path / "day1", first.state(), {"day": 1})
    state, _ = load(tmp_path / "day1")
    second.restore(state)
    train_one_pass(second, days[2:])
    assert all(torch.equal(tensor, undisturbed.state()[name]) for name, tensor in second.state().items())

    minutes = replace(SMALL, objectives=(*SMALL.objectives[:2], value("watch", "click", 60_000.0)))
    with pytest.raises(StateMismatch, match=r"scale_K is \[0.0, 0.0, 1000.0\], expected .*60000.0"):
        make(funnel=minutes).restore(state)
    liked = replace(SMALL, objectives=(*SMALL.objectives[:2], replace(FUNNEL["order"], name="like")))
    with pytest.raises(StateMismatch, match="unexpected scale_K"):
        make(funnel=liked).restore(state)


def test_uncertainty_weighs_a_squared_error_by_kendalls_regression_term() -> None:
    """1/2 exp(-s) L + s / 2, at rest where exp(s) is the squared error itself."""
    balancer, losses_K = Uncertainty(2, 0), torch.tensor([0.7, 5.0])
    balancer.told((False, True))
    balancer.log_variance_K.data = torch.tensor([0.3, -2.0])
    want = np.exp(-0.3) * 0.7 + 0.15 + 0.5 * np.exp(2.0) * 5.0 - 1.0
    assert balancer(losses_K).item() == pytest.approx(want, rel=1e-6)
    descent = torch.optim.SGD(balancer.parameters(), lr=0.5)
    balancer.log_variance_K.data = torch.zeros(2)
    for _ in range(200):
        descent.zero_grad()
        balancer.backward(losses_K, Leaves(losses_K))
        descent.step()
    torch.testing.assert_close(balancer.log_variance_K.exp().detach(), torch.tensor([1.4, 5.0]))
    assert "factor_K" not in balancer.state_dict()


def test_a_line_tells_its_balancer_which_losses_are_squared(make_line: Callable[..., Line]) -> None:
    line = make_line(funnel=FUNNEL, balancer=Uncertainty)
    assert line.balancer.get_buffer("factor_K").tolist() == [0.5, 1.0, 0.5, 1.0, 0.5]
    for indifferent in (Static, Geometric):
        indifferent(5, 0).told((True, False, True, False, True))


def test_a_space_of_its_own_serves_a_value(make_line: Callable[..., Line]) -> None:
    """Rows that train the value alone move its embedding space and no other."""
    line = make_line(funnel=SMALL, architecture=SingleTask, method=Masked())
    before, row = line.embedding.weight_RD.clone(), watched(np.random.default_rng(0), 16)
    row["trains"][:, :2] = False
    line.learn(Batch.from_numpy(row))
    moved_S = (line.embedding.weight_RD != before).view(50, 3, 4).any(dim=2).any(dim=0)
    assert moved_S.tolist() == [False, False, True]


def test_values_are_measured_in_their_unit_per_impression_and_per_event() -> None:
    rng, rows = np.random.default_rng(4), 300
    row = watched(rng, rows)
    y, valid = row["y"], rng.random((rows, 3)) < 0.8
    y[~valid[:, 2], 2] = np.nan
    said = {column.name: rng.normal(1, 1, rows).astype(np.float32) for column in SMALL.score_columns}
    said |= {name: rng.random(rows) for name in ("pctr", "pcvr", "pctcvr")}
    metrics = evaluate(SMALL, y, valid, said, rng.integers(0, 9, rows))
    found = {(m.space, m.name): m for m in metrics if m.objective == "watch"}
    spaces = {
        "impressions": (said["e_watch"], valid[:, 2]),
        "given_click": (said["e_watch_given_click"], valid[:, 2] & (y[:, 0] == 1)),
    }
    assert found.keys() == {(space, name) for space in spaces for name in ("rmse", "mae", "pcoc")}
    for space, (e, inside) in spaces.items():
        error, seen = e[inside].astype(float) - y[inside, 2], y[inside, 2].astype(float)
        assert found[space, "rmse"].value == pytest.approx((error**2).mean() ** 0.5)
        assert found[space, "mae"].value == pytest.approx(abs(error).mean())
        assert found[space, "pcoc"].value == pytest.approx(e[inside].astype(float).mean() / seen.mean())
        assert (found[space, "mae"].rows, found[space, "mae"].positives) == (inside.sum(), (seen != 0).sum())

    nothing = evaluate(SMALL, y, np.zeros_like(valid), said, rng.integers(0, 9, rows))
    assert {m.value for m in nothing} == {None}
    y[:, 2] = 0
    unsold = evaluate(SMALL, y, np.ones_like(valid), said, rng.integers(0, 9, rows))
    undefined = {m.name for m in unsold if m.objective == "watch" and m.value is None}
    assert undefined == {"pcoc"}
