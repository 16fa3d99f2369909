"""The declared paths of ESM2 against enumeration of every outcome in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from features.funnel import Funnel
from models.batch import Batch
from models.entire_space.base import Labels
from models.entire_space.esm2 import ESM2
from models.entire_space.esmm import ESMM
from models.line import Line
from models.score import probabilities


def p_of(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.fixture
def shop(make_tree: Callable[..., Funnel]) -> Funnel:
    """Click a; wish b, cart c and purchase d given the click; refund e given the purchase."""
    return make_tree(None, 0, 0, 0, 3)


def told(y: np.ndarray) -> Labels:
    y_BK = torch.from_numpy(y).double()
    return Labels(y_BK, torch.ones_like(y_BK, dtype=torch.bool), torch.ones(len(y)).double())


def by_enumeration(p: np.ndarray, several: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Conditional and joint probabilities of one row, and that of any action, over all outcomes.

    Heads: click, wish, cart, purchase after an action, refund, then any action where it has a head, then
    purchase without one.
    """
    joint, any_ = np.zeros(5), 0.0
    for outcome in product((0, 1), repeat=len(p)):
        chance = np.prod([q if happens else 1 - q for q, happens in zip(p, outcome, strict=True)])
        click, wish, cart, after, refund, *added = outcome
        acted = added[0] if several else cart
        buys = click * (after if acted else added[-1])
        joint += chance * np.array([click, click * wish, click * cart, buys, buys * refund])
        any_ += chance * click * acted
    conditional = joint / np.array([1, joint[0], joint[0], joint[0], joint[3]])
    return conditional, joint, any_


@pytest.mark.parametrize(("actions", "heads"), [("c", 6), (("b", "c"), 7)])
def test_probabilities_and_losses_equal_enumeration(shop: Funnel, actions: Any, heads: int) -> None:
    method, rng = ESM2(decisive={"d": actions}), np.random.default_rng(1)
    assert len(method.heads(shop)) == heads
    logits = rng.normal(0, 2, (20, heads))
    conditional_BK, joint_BK = method.log_probabilities(torch.from_numpy(logits), shop)
    rows = [by_enumeration(p, heads == 7) for p in p_of(logits)]
    np.testing.assert_allclose(conditional_BK.exp(), [row[0] for row in rows], rtol=1e-10)
    joint = np.array([row[1] for row in rows])
    np.testing.assert_allclose(joint_BK.exp(), joint, rtol=1e-10)

    y = (rng.random((20, 5)) < 0.6) * 1.0
    y[:, 1:4] *= y[:, :1]
    y[:, 4] *= y[:, 3]
    want = -(y * np.log(joint) + (1 - y) * np.log(1 - joint)).mean(axis=0)
    if heads == 7:
        acted, p = y[:, 1:3].max(axis=1), np.array([row[2] for row in rows])
        want[3] += -(acted * np.log(p) + (1 - acted) * np.log(1 - p)).mean()
    np.testing.assert_allclose(method.losses(torch.from_numpy(logits), told(y), shop), want, rtol=1e-10)


def test_with_nothing_declared_it_is_esmm(shop: Funnel) -> None:
    logits_BK = torch.from_numpy(np.random.default_rng(2).normal(0, 3, (9, 5)))
    y = told(np.tile([1.0, 0.0, 1.0, 1.0, 0.0], (9, 1)))
    assert torch.equal(ESM2().losses(logits_BK, y, shop), ESMM().losses(logits_BK, y, shop))
    for found, want in zip(
        ESM2().log_probabilities(logits_BK, shop), ESMM().log_probabilities(logits_BK, shop), strict=True
    ):
        assert torch.equal(found, want)


def test_gradients_equal_finite_differences_on_both_paths(shop: Funnel) -> None:
    rng, method = np.random.default_rng(3), ESM2(decisive={"d": ("b", "c")})
    y = told((rng.random((4, 5)) < 0.5) * 1.0)
    logits_BH = torch.from_numpy(rng.normal(0, 2, (4, 7))).requires_grad_()
    assert torch.autograd.gradcheck(lambda moved: method.losses(moved, y, shop), logits_BH)


def test_every_head_of_a_declared_path_is_taught(shop: Funnel) -> None:
    method = ESM2(decisive={"d": ("b", "c")})
    logits_BH = torch.zeros(8, 7, dtype=torch.float64, requires_grad=True)
    y = told(np.tile([1.0, 0.0, 1.0, 1.0, 0.0], (8, 1)))
    for term in method.terms(logits_BH, y, shop):
        (grad_BH,) = torch.autograd.grad(term.loss, logits_BH, retain_graph=True)
        assert grad_BH.any(), term.name
    method.losses(logits_BH, y, shop).sum().backward()
    assert logits_BH.grad.any(dim=0).all()


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_certain_and_wrong_conversion_still_learns(shop: Funnel, y: float) -> None:
    """In float32 the products of sigmoids, and one less them, have no gradient here."""
    logits_BH = torch.full((1, 6), 60.0 if y == 0 else -60.0, requires_grad=True)
    labels = Labels(torch.full((1, 5), y), torch.ones(1, 5, dtype=torch.bool), torch.ones(1))
    loss = ESM2(decisive={"d": "c"}).losses(logits_BH, labels, shop)[3]
    loss.backward()
    assert loss > 50
    assert logits_BH.grad.abs().sum() > 0.4
    assert torch.isfinite(logits_BH.grad).all()


def test_a_conversion_never_exceeds_its_click_in_the_scores(
    shop: Funnel, make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    """The two paths add up to a little more than one where both are certain."""
    line = make_line(funnel=shop, method=ESM2(decisive={"d": "c"}))
    logits_BH = torch.from_numpy(np.random.default_rng(4).normal(0, 6, (4099, 6)).astype(np.float32))
    logits_BH[::3, 3:] = 40.0
    line.network.forward = lambda *read: logits_BH  # type: ignore[method-assign]
    arrays = make_batch(4099)
    scores = probabilities(line, arrays)
    assert (scores["p_d"] <= scores["pctr"]).all()
    assert (scores["p_e"] <= scores["p_d"]).all()
    for p in scores.values():
        assert ((p >= 0) & (p <= 1)).all()


@pytest.mark.parametrize(
    ("decisive", "message"),
    [
        ({"d": "z"}, "'z' is no objective"),
        ({"b": "c"}, "Declare 'c' before 'b'"),
        ({"d": "d"}, "Declare 'd' before 'd'"),
        ({"e": "c"}, "'c' is given 'a', and 'e', which it is to decide, is given 'd'"),
    ],
)
def test_a_path_that_the_funnel_does_not_have_is_refused(
    shop: Funnel, make_line: Callable[..., Line], decisive: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_line(funnel=shop, method=ESM2(decisive=decisive))


@pytest.mark.parametrize("actions", [(), ("b", "b")])
def test_an_action_is_named_once(actions: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="each decisive action of 'd' once"):
        ESM2(decisive={"d": actions})
