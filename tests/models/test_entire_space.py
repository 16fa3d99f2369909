"""Chain rule and losses against enumeration and against the papers' equations in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels
from models.entire_space.chain import log_reach
from models.entire_space.division import Division
from models.entire_space.escm2_ips import ESCM2IPS
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.entire_space.multi_ipw import MultiIPW
from models.entire_space.ordered import Ordered


@settings(max_examples=30, deadline=None)
@given(further=st.lists(st.integers(-1, 4), max_size=3), seed=st.integers(0, 2**32 - 1))
def test_chain_equals_enumeration_of_every_outcome(
    make_tree: Callable[..., Funnel], further: list[int], seed: int
) -> None:
    parents = [None, 0, *(None if p < 0 else min(p, k + 1) for k, p in enumerate(further))]
    normal = np.random.default_rng(seed).normal(0, 3, (3, len(parents)))
    reached_BK, missed_BK = log_reach(torch.from_numpy(normal), make_tree(*parents))
    for row, p in enumerate(1 / (1 + np.exp(-normal))):
        reach, miss = np.zeros(len(parents)), np.zeros(len(parents))
        for outcome in product((0, 1), repeat=len(parents)):
            chance = np.prod([p[k] if happens else 1 - p[k] for k, happens in enumerate(outcome)])
            state: list[int] = []
            for k, parent in enumerate(parents):
                state.append(outcome[k] * (1 if parent is None else state[parent]))
            reach += chance * np.array(state)
            miss += chance * (1 - np.array(state))
        np.testing.assert_allclose(reached_BK[row].exp(), reach, rtol=1e-10)
        np.testing.assert_allclose(missed_BK[row].exp(), miss, rtol=1e-10)


def test_reaching_and_missing_are_complementary_in_both_tails(make_tree: Callable[..., Funnel]) -> None:
    logits_BK = torch.tensor(list(product((-60.0, -5.0, 0.0, 5.0, 60.0), repeat=3)), dtype=torch.float64)
    reached_BK, missed_BK = log_reach(logits_BK, make_tree(None, 0, 1))
    torch.testing.assert_close(torch.logaddexp(reached_BK, missed_BK), torch.zeros(125, 3).double())


@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize("size", [60.0, 200.0])
def test_gradient_survives_both_tails(make_tree: Callable[..., Funnel], y: float, size: float) -> None:
    """Certain and wrong in float32: the product of sigmoids has no gradient here."""
    logits_BK = torch.full((1, 2), size if y == 0 else -size, requires_grad=True)
    everything = torch.ones(1, 2, dtype=torch.bool)
    losses_K = ESMM().losses(
        logits_BK, Labels(torch.full((1, 2), y), everything, torch.ones(1)), make_tree(None, 0)
    )
    losses_K[1].backward()
    assert torch.isfinite(losses_K).all()
    assert (logits_BK.grad.abs() > 0.4).all()


@pytest.fixture
def rows(funnel: Funnel, make_labels: Callable[..., np.ndarray]) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "logits_BK": torch.from_numpy(rng.normal(0, 2, (24, 4))),
        "y_BK": torch.from_numpy(make_labels(rng, 24, funnel)).double(),
        "trains_BK": torch.from_numpy(rng.random((24, 4)) < 0.7),
        "weight_B": torch.from_numpy(rng.uniform(0.2, 3, 24)),
        "funnel": funnel,
    }


def with_added(method: EntireSpace, logits_BK: Tensor, funnel: Funnel) -> Tensor:
    """A method that reads more heads than there are objectives is given more columns."""
    added = len(method.heads(funnel)) - len(funnel)
    return torch.cat([logits_BK, logits_BK[:, :added] * 0.5], dim=1) if added else logits_BK


def costs(method: EntireSpace, rows: dict[str, Any]) -> Tensor:
    """Losses of the rows."""
    told = Labels(rows["y_BK"], rows["trains_BK"], rows["weight_B"])
    return method.losses(with_added(method, rows["logits_BK"], rows["funnel"]), told, rows["funnel"])


def cross_entropy(y: float, p: float) -> float:
    return -np.log(p) if y else -np.log(1 - p)


def expected(rows: dict[str, Any], parents: list[int | None], joint: bool) -> list[float]:
    """Weighted means row by row: ESMM equation 3 if joint, PLE equation 8 otherwise."""
    p = 1 / (1 + np.exp(-rows["logits_BK"].numpy()))
    y, trains, weight = (rows[name].numpy() for name in ("y_BK", "trains_BK", "weight_B"))
    means = []
    for k, parent in enumerate(parents):
        total = mass = 0.0
        for i in range(len(y)):
            if not trains[i, k] or (not joint and parent is not None and y[i, parent] != 1):
                continue
            product_of = p[i, k] * (p[i, parent] if joint and parent is not None else 1)
            total += weight[i] * cross_entropy(y[i, k], product_of)
            mass += weight[i]
        means.append(total / mass)
    return means


@pytest.mark.parametrize(("method", "joint"), [(ESMM(), True), (Masked(), False)])
def test_losses_equal_the_equations(rows: dict[str, Any], method: EntireSpace, joint: bool) -> None:
    np.testing.assert_allclose(costs(method, rows), expected(rows, [None, 0, 0, None], joint), rtol=1e-10)


def test_division_learns_the_joint_probability_itself(rows: dict[str, Any]) -> None:
    p = 1 / (1 + np.exp(-rows["logits_BK"].numpy()))
    y, trains, weight = (rows[name].numpy() for name in ("y_BK", "trains_BK", "weight_B"))
    means = []
    for k in range(4):
        inside = [i for i in range(len(y)) if trains[i, k]]
        total = sum(weight[i] * cross_entropy(y[i, k], p[i, k]) for i in inside)
        means.append(total / sum(weight[i] for i in inside))
    np.testing.assert_allclose(costs(Division(), rows), means, rtol=1e-10)


def test_division_divides_and_never_exceeds_one(make_tree: Callable[..., Funnel]) -> None:
    logits_BK = torch.tensor([[0.0, -2.0], [-3.0, 1.0]], dtype=torch.float64)
    conditional_BK, joint_BK = Division().log_probabilities(logits_BK, make_tree(None, 0))
    click, conversion = 0.5, 1 / (1 + np.exp(2))
    np.testing.assert_allclose(joint_BK[0].exp(), [click, conversion], rtol=1e-12)
    np.testing.assert_allclose(conditional_BK[0].exp(), [click, conversion / click], rtol=1e-12)
    assert joint_BK[1, 1] == joint_BK[1, 0]
    assert conditional_BK[1, 1] == 0


def test_ordered_prices_a_child_above_its_parent(rows: dict[str, Any]) -> None:
    p = 1 / (1 + np.exp(-rows["logits_BK"].numpy()))
    trains, weight = rows["trains_BK"].numpy(), rows["weight_B"].numpy()
    want = costs(Division(), rows).numpy().copy()
    for k in (1, 2):
        above = [max(p[i, k] - p[i, 0], 0) * weight[i] for i in range(24) if trains[i, k]]
        want[k] += 0.6 * sum(above) / weight[trains[:, k]].sum()
    np.testing.assert_allclose(costs(Ordered(), rows), want, rtol=1e-10)
    with pytest.raises(ValueError, match="above 0"):
        Ordered(alpha=0.0)


def by_propensity(rows: dict[str, Any], k: int, parent: int, floor: float) -> float:
    """Multi-IPW row by row: over all impressions that train, the clicked ones over their propensity."""
    p = 1 / (1 + np.exp(-rows["logits_BK"].numpy()))
    y, trains, weight = (rows[name].numpy() for name in ("y_BK", "trains_BK", "weight_B"))
    total = mass = 0.0
    for i in range(len(y)):
        if trains[i, k]:
            mass += weight[i]
            if y[i, parent] == 1:
                total += weight[i] * cross_entropy(y[i, k], p[i, k]) / max(p[i, parent], floor)
    return total / mass


def test_multi_ipw_weighs_clicked_rows_by_their_propensity(rows: dict[str, Any]) -> None:
    plain = expected(rows, [None, 0, 0, None], joint=False)
    want = [plain[0], by_propensity(rows, 1, 0, 0.3), by_propensity(rows, 2, 0, 0.3), plain[3]]
    np.testing.assert_allclose(costs(MultiIPW(floor=0.3), rows), want, rtol=1e-10)


def test_escm2_ips_adds_the_joint_loss(rows: dict[str, Any]) -> None:
    joint = expected(rows, [None, 0, 0, None], joint=True)
    want = [
        joint[k] if k in (0, 3) else 0.5 * by_propensity(rows, k, 0, 0.1) + 2.0 * joint[k] for k in range(4)
    ]
    found = costs(ESCM2IPS(conditional=0.5, joint=2.0, floor=0.1), rows)
    np.testing.assert_allclose(found, want, rtol=1e-10)


def test_the_propensity_gets_no_gradient_from_the_loss_that_it_weighs(rows: dict[str, Any]) -> None:
    logits_BK = rows["logits_BK"].requires_grad_()
    costs(MultiIPW(), rows)[1].backward()
    assert logits_BK.grad[:, 1].any()
    assert not logits_BK.grad[:, 0].any()


def test_weights_by_propensity_estimate_the_loss_over_all_impressions(
    make_tree: Callable[..., Funnel],
) -> None:
    """Clicks that select rows with other conversion rates: over clicks it is off, weighted it is not."""
    rng, rows, funnel = np.random.default_rng(2), 400_000, make_tree(None, 0)
    chosen = rng.random(rows) < 0.5
    click, conversion = np.where(chosen, 0.8, 0.2), np.where(chosen, 0.9, 0.3)
    r = rng.random(rows) < conversion
    y = np.stack([rng.random(rows) < click, np.zeros(rows)], axis=1)
    y[:, 1] = y[:, 0] * r
    logits = np.stack([np.log(click / (1 - click)), np.full(rows, 0.4)], axis=1)
    told = Labels(torch.from_numpy(y), torch.ones(rows, 2, dtype=torch.bool), torch.ones(rows).double())
    p = 1 / (1 + np.exp(-0.4))
    entire = np.where(r, -np.log(p), -np.log(1 - p)).mean()
    losses = {m: m.losses(torch.from_numpy(logits), told, funnel)[1].item() for m in (MultiIPW(), Masked())}
    weighted, clicked = losses.values()
    assert weighted == pytest.approx(entire, abs=0.01)
    assert abs(clicked - entire) > 0.05


@pytest.mark.parametrize("settings", [{"floor": 0.0}, {"floor": 1.5}])
def test_a_floor_that_is_no_probability_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="floor must lie"):
        MultiIPW(**settings)
    with pytest.raises(ValueError, match="above 0"):
        ESCM2IPS(joint=0.0)


class HeldFixed(TorchFunctionMode):
    """Gives out again what was detached at first: then the gradient is the derivative of the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self.place = 0

    def __enter__(self) -> HeldFixed:
        self.place = 0
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is not Tensor.detach:
            return result
        if self.place == len(self.kept):
            self.kept.append(result)
        self.place += 1
        return self.kept[self.place - 1]


def test_gradients_equal_finite_differences(method_class: type[EntireSpace], rows: dict[str, Any]) -> None:
    """Of all losses by all logits; a factor that is held fixed does not move with them."""
    method, held = method_class(), HeldFixed()

    def losses(moved_BK: Tensor) -> Tensor:
        with held:
            return costs(method, rows | {"logits_BK": moved_BK})

    losses(rows["logits_BK"])
    assert bool(held.kept) == method.detaches
    assert torch.autograd.gradcheck(losses, rows["logits_BK"].clone().requires_grad_())


def test_row_order_does_not_matter(method_class: type[EntireSpace], rows: dict[str, Any]) -> None:
    turned = {n: v.flip(0) if isinstance(v, Tensor) else v for n, v in rows.items()}
    torch.testing.assert_close(costs(method_class(), turned), costs(method_class(), rows), rtol=1e-12, atol=0)


def test_doubling_every_weight_changes_nothing(method_class: type[EntireSpace], rows: dict[str, Any]) -> None:
    doubled = rows | {"weight_B": 2 * rows["weight_B"]}
    torch.testing.assert_close(costs(method_class(), doubled), costs(method_class(), rows))


def test_objective_without_rows_costs_nothing(method_class: type[EntireSpace], rows: dict[str, Any]) -> None:
    rows["trains_BK"][:, 3] = False
    logits_BK = rows["logits_BK"].requires_grad_()
    losses_K = costs(method_class(), rows)
    assert losses_K[3] == 0
    losses_K[3].backward(retain_graph=True)
    assert not logits_BK.grad.any()
    losses_K.sum().backward()
    assert not logits_BK.grad[:, 3].any()
    assert logits_BK.grad[:, :3].any(dim=0).all()


def test_labels_that_do_not_train_are_never_looked_at(
    method_class: type[EntireSpace], rows: dict[str, Any]
) -> None:
    """A label that is not final may hold NaN: it must reach neither the loss nor the gradient."""
    rows["trains_BK"][:, 0] = True
    unknown = rows | {"y_BK": torch.where(rows["trains_BK"], rows["y_BK"], torch.nan)}
    logits_BK = rows["logits_BK"].requires_grad_()
    losses_K = costs(method_class(), unknown)
    torch.testing.assert_close(losses_K, costs(method_class(), rows), rtol=0, atol=0)
    losses_K.sum().backward()
    assert torch.isfinite(logits_BK.grad).all()


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_batches_of_one_row_or_one_class_are_ordinary(
    method_class: type[EntireSpace], funnel: Funnel, label: float, size: int
) -> None:
    logits_BK = torch.zeros(size, 4, requires_grad=True)
    everything = torch.ones(size, 4, dtype=torch.bool)
    told = Labels(torch.full((size, 4), label), everything, torch.ones(size))
    method = method_class()
    losses_K = method.losses(with_added(method, logits_BK, funnel), told, funnel)
    assert losses_K.shape == (4,)
    losses_K.sum().backward()
    assert torch.isfinite(losses_K).all()
    assert torch.isfinite(logits_BK.grad).all()


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_certain_and_wrong_row_still_learns(
    method_class: type[EntireSpace], make_tree: Callable[..., Funnel], y: float
) -> None:
    """Logits of 60 in float32, where a probability is 0 or 1: every loss is finite and moves its logit."""
    method, funnel = method_class(), make_tree(None, 0, 1)
    logits_BK = torch.full((2, 3), 60.0 if y == 0 else -60.0, requires_grad=True)
    y_BK = torch.full((2, 3), y)
    y_BK[1] = torch.tensor([1.0, y, y])  # reached, so that what follows is learned in its own space, too
    told = Labels(y_BK, torch.ones(2, 3, dtype=torch.bool), torch.ones(2))
    losses_K = method.losses(with_added(method, logits_BK, funnel), told, funnel)
    assert torch.isfinite(losses_K).all()
    for k in (0, 1):
        (grad_BK,) = torch.autograd.grad(losses_K[k], logits_BK, retain_graph=True)
        assert torch.isfinite(grad_BK).all()
        assert grad_BK.any()


def test_counted_rows_train(method_class: type[EntireSpace], rows: dict[str, Any]) -> None:
    counts_BK = method_class().counts(rows["y_BK"], rows["trains_BK"], rows["funnel"])
    assert counts_BK.dtype == torch.bool
    assert not (counts_BK & ~rows["trains_BK"]).any()
