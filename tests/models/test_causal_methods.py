"""Doubly robust, counterfactual and pseudo-label losses against their equations, row by row in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels
from models.entire_space.dcmt import DCMT
from models.entire_space.escm2_dr import ESCM2DR
from models.entire_space.multi_dr import MultiDR
from models.entire_space.multi_ipw import MultiIPW
from models.entire_space.nise import NISE

#: Click, conversion given click, refund given conversion, share given nothing.
PARENTS = (None, 0, 1, None)
FLOOR = 0.2


@pytest.fixture
def rows(make_tree: Callable[..., Funnel], make_labels: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Forty rows, more columns than any method here reads."""
    rng, funnel = np.random.default_rng(5), make_tree(*PARENTS)
    return {
        "logits_BH": torch.from_numpy(rng.normal(0, 2, (40, 6))),
        "labels": Labels(
            torch.from_numpy(make_labels(rng, 40, funnel)).double(),
            torch.from_numpy(rng.random((40, 4)) < 0.8),
            torch.from_numpy(rng.uniform(0.2, 3, 40)),
        ),
        "funnel": funnel,
    }


def costs(method: EntireSpace, rows: dict[str, Any], logits_BH: Tensor | None = None) -> Tensor:
    read = (rows["logits_BH"] if logits_BH is None else logits_BH)[:, : len(method.heads(rows["funnel"]))]
    return method.losses(read, rows["labels"], rows["funnel"])


def p_of(logit: float) -> float:
    return 1 / (1 + np.exp(-logit))


def error(y: float, p: float) -> float:
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def over_impressions(rows: dict[str, Any], k: int, of_row: Callable[[int], float]) -> float:
    """Weighted mean of a figure of the row, over the rows that train the objective."""
    trains, weight = rows["labels"].trains_BK[:, k].numpy(), rows["labels"].weight_B.numpy()
    inside = np.flatnonzero(trains)
    return sum(weight[i] * of_row(i) for i in inside) / weight[inside].sum()


def reach(rows: dict[str, Any], i: int, k: int | None) -> float:
    """Probability of reaching an objective, by the product along its path."""
    return 1.0 if k is None else p_of(rows["logits_BH"][i, k].item()) * reach(rows, i, PARENTS[k])


def known(rows: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return rows["logits_BH"].numpy(), rows["labels"].y_BK.numpy()


def joint(rows: dict[str, Any], k: int) -> float:
    _, y = known(rows)
    return over_impressions(rows, k, lambda i: error(y[i, k], reach(rows, i, k)))


def doubly_robust(rows: dict[str, Any], k: int, head: int, imputes: str, imputation: float) -> float:
    logit, y = known(rows)

    def of_row(i: int) -> float:
        p, told = p_of(logit[i, k]), logit[i, head]
        imputed = np.log1p(np.exp(told)) if imputes == "error" else error(p_of(told), p)
        seen = y[i, PARENTS[k]] / max(reach(rows, i, PARENTS[k]), FLOOR)
        gap = error(y[i, k], p) - imputed
        return imputed + seen * gap + imputation * seen * gap**2

    return over_impressions(rows, k, of_row)


@pytest.mark.parametrize("imputes", ["error", "label"])
def test_doubly_robust_losses_equal_the_equation(rows: dict[str, Any], imputes: Any) -> None:
    below = [doubly_robust(rows, k, 3 + k, imputes, imputation=0.7) for k in (1, 2)]
    want = [joint(rows, 0), *below, joint(rows, 3)]
    found = costs(MultiDR(floor=FLOOR, imputation=0.7, imputes=imputes), rows)
    np.testing.assert_allclose(found, want, rtol=1e-10)
    want[1:3] = [0.5 * below[k - 1] + 2 * joint(rows, k) for k in (1, 2)]
    method = ESCM2DR(conditional=0.5, joint=2.0, floor=FLOOR, imputation=0.7, imputes=imputes)
    np.testing.assert_allclose(costs(method, rows), want, rtol=1e-10)


def test_each_part_of_a_doubly_robust_loss_teaches_its_own_head(rows: dict[str, Any]) -> None:
    method = MultiDR()
    logits_BH = rows["logits_BH"].requires_grad_()
    for term in method.terms(logits_BH, rows["labels"], rows["funnel"]):
        (grad_BH,) = torch.autograd.grad(term.loss, logits_BH, retain_graph=True)
        head = term.objective + 3 if "imputation" in term.name else term.objective
        assert [h for h in range(6) if grad_BH[:, h].any()] == [head], term.name


def test_an_imputed_error_leaves_the_step_of_inverse_propensities(rows: dict[str, Any]) -> None:
    """As the docstring warns: only an imputed label moves the gradient."""
    logits_BH = rows["logits_BH"].requires_grad_()
    grads = {}
    for name, method in {
        "ipw": MultiIPW(),
        "error": MultiDR(imputes="error"),
        "label": MultiDR(imputes="label"),
    }.items():
        (grads[name],) = torch.autograd.grad(costs(method, rows)[1], logits_BH)
    torch.testing.assert_close(grads["error"][:, 1], grads["ipw"][:, 1])
    assert (grads["label"][:, 1] - grads["ipw"][:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("right", ["propensity", "imputation"])
def test_a_doubly_robust_step_is_that_of_the_entire_space_if_either_is_right(
    make_tree: Callable[..., Funnel], right: str
) -> None:
    """Clicks that select rows with other conversion rates; the other of the two is far off."""
    rng, n = np.random.default_rng(2), 400_000
    chosen = rng.random(n) < 0.5
    click, conversion = np.where(chosen, 0.8, 0.3), np.where(chosen, 0.9, 0.3)
    y = np.stack([rng.random(n) < click, rng.random(n) < conversion], axis=1).astype(float)
    converts = y[:, 1].copy()
    y[:, 1] *= y[:, 0]
    propensity = click if right == "propensity" else np.full(n, 0.55)
    imputed = conversion if right == "imputation" else np.full(n, 0.5)
    columns = [np.log(propensity / (1 - propensity)), np.full(n, 0.4), np.log(imputed / (1 - imputed))]
    logits_BH = torch.from_numpy(np.stack(columns, axis=1)).requires_grad_()
    told = Labels(torch.from_numpy(y), torch.ones(n, 2, dtype=torch.bool), torch.ones(n).double())
    steps = {}
    for name, method, heads in (("dr", MultiDR(), 3), ("ipw", MultiIPW(), 2)):
        loss = method.terms(logits_BH[:, :heads], told, make_tree(None, 0))[1].loss
        steps[name] = torch.autograd.grad(loss, logits_BH)[0][:, 1].sum().item()
    entire = (p_of(0.4) - converts).mean()
    assert steps["dr"] == pytest.approx(entire, abs=0.005)
    if right == "imputation":
        assert abs(steps["ipw"] - entire) > 0.05


def test_dcmt_equals_the_equation(rows: dict[str, Any]) -> None:
    logit, y = known(rows)

    def of_row(i: int, k: int) -> float:
        parent = PARENTS[k]
        p, twin, above = p_of(logit[i, k]), p_of(logit[i, 3 + k]), reach(rows, i, parent)
        factual = y[i, parent] * error(y[i, k], p) / max(above, FLOOR)
        counterfactual = (1 - y[i, parent]) * error(1.0, twin) / max(1 - above, FLOOR)
        return factual + counterfactual + 0.4 * abs(1 - (p + twin))

    below = [over_impressions(rows, k, lambda i, k=k: of_row(i, k)) + joint(rows, k) for k in (1, 2)]
    found = costs(DCMT(constraint=0.4, floor=FLOOR), rows)
    np.testing.assert_allclose(found, [joint(rows, 0), *below, joint(rows, 3)], rtol=1e-10)


def test_the_constraint_of_dcmt_sees_what_is_left_of_a_certain_probability(
    make_tree: Callable[..., Funnel],
) -> None:
    """In float32 1 - p is 0 at a logit of 20, and what the twins lack to one is not."""
    logits_BH = torch.tensor([[0.0, 20.0, -60.0]])
    told = Labels(torch.tensor([[1.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool), torch.ones(1))
    constraint = DCMT(constraint=1.0).terms(logits_BH, told, make_tree(None, 0))[-1]
    assert constraint.name == "b: constraint"
    assert constraint.loss.item() == pytest.approx(1 / (1 + np.exp(20)), rel=1e-5)


@pytest.mark.parametrize(("beta", "capped"), [(50.0, False), (0.3, True)])
def test_nise_equals_the_equation(rows: dict[str, Any], beta: float, capped: bool) -> None:
    logit, y = known(rows)

    def of_row(i: int, k: int) -> float:
        p = p_of(logit[i, k])
        return error(y[i, k], p) if y[i, PARENTS[k]] else error(p, p)

    sizes = [joint(rows, 0), *(over_impressions(rows, k, lambda i, k=k: of_row(i, k)) for k in (1, 2))]
    ratios = [sizes[k - 1] / sizes[k] for k in (1, 2)]
    assert [ratio > beta for ratio in ratios] == [capped, capped]
    below = [2 * min(ratio, beta) * size for ratio, size in zip(ratios, sizes[1:], strict=True)]
    found = costs(NISE(alpha=2.0, beta=beta), rows)
    np.testing.assert_allclose(found, [sizes[0], *below, joint(rows, 3)], rtol=1e-10)


def test_a_pseudo_label_that_is_held_fixed_would_teach_nothing(rows: dict[str, Any]) -> None:
    """What it does instead is to lower the entropy: away from 1/2, by x p (1 - p)."""
    logits_BH = rows["logits_BH"].requires_grad_()
    terms = {term.name: term.loss for term in NISE(beta=1e-9).terms(logits_BH[:, :4], *told(rows))}
    (grad_BH,) = torch.autograd.grad(terms["b: unlabelled"], logits_BH)
    y_B, trains_B = rows["labels"].y_BK[:, 0], rows["labels"].trains_BK[:, 1]
    weight_B = torch.where(trains_B, rows["labels"].weight_B, 0.0)
    x_B = logits_BH[:, 1].detach()
    p_B = torch.sigmoid(x_B)
    want_B = -1e-9 * x_B * p_B * (1 - p_B) * weight_B / weight_B.sum()
    torch.testing.assert_close(grad_BH[:, 1], torch.where(y_B == 0, want_B, 0.0))


def test_nise_learns_where_the_parent_was_learned_before(rows: dict[str, Any]) -> None:
    """Conversions are final days after the clicks: such a batch holds no row that trains the click."""
    rows["labels"].trains_BK[:, 0] = False
    logits_BH = rows["logits_BH"].requires_grad_()
    costs(NISE(), rows)[1].backward()
    assert logits_BH.grad[:, 1].any()


def told(rows: dict[str, Any]) -> tuple[Labels, Funnel]:
    return rows["labels"], rows["funnel"]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (MultiDR, {"imputation": 0.0}),
        (MultiDR, {"imputes": "labels"}),
        (MultiDR, {"floor": 0.0}),
        (ESCM2DR, {"joint": 0.0}),
        (DCMT, {"constraint": 0.0}),
        (DCMT, {"floor": 2.0}),
        (NISE, {"beta": 0.0}),
    ],
)
def test_a_setting_that_cannot_be_is_refused(method: type[EntireSpace], settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=name if name != "joint" else "Both weights"):
        method(**settings)
