"""What every architecture, method and balancer promises; new files are met here without an edit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from features.funnel import Funnel
from models.architecture import Architecture
from models.balancing.base import Balancer, Leaves
from models.batch import Batch
from models.choices import describe, page
from models.entire_space.base import EntireSpace, Labels
from models.heads import Heads
from models.inputs import Inputs
from models.line import Line


def test_every_parameter_learns(
    architecture_class: Callable[..., Architecture],
    method_class: type[EntireSpace],
    balancer_class: Callable[..., Balancer],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
) -> None:
    """Whatever is combined, on a funnel of four objectives: a step moves every weight."""
    line = make_line(architecture=architecture_class, method=method_class(), balancer=balancer_class)
    learning = [*line.network.named_parameters(), *line.balancer.named_parameters()]
    before = {name: parameter.detach().clone() for name, parameter in learning}
    table = line.embedding.weight_RD.clone()
    line.learn(make_batch(64))
    assert [name for name, parameter in learning if torch.equal(before[name], parameter)] == []
    assert not torch.equal(table, line.embedding.weight_RD)


def test_every_term_of_a_loss_gives_a_gradient(
    method_class: type[EntireSpace], funnel: Funnel, make_labels: Callable[..., np.ndarray]
) -> None:
    """A declared term that nothing flows from is a loss that was never trained."""
    method = method_class()
    rng = np.random.default_rng(0)
    heads = method.heads(funnel)
    logits_BH = torch.from_numpy(rng.normal(size=(64, len(heads)))).requires_grad_()
    y_BK = torch.from_numpy(make_labels(rng, 64, funnel)).double()
    told = Labels(y_BK, torch.ones(64, 4, dtype=torch.bool), torch.ones(64).double(), step=10**6)
    terms = method.terms(logits_BH, told, funnel)
    assert {term.objective for term in terms} == set(range(len(funnel)))
    for term in terms:
        (grad_BH,) = torch.autograd.grad(term.loss, logits_BH, retain_graph=True)
        assert grad_BH.any(), term.name
    (grad_BH,) = torch.autograd.grad(method.losses(logits_BH, told, funnel).sum(), logits_BH)
    assert grad_BH.any(dim=0).all(), "a head that nothing teaches"


def test_logits_have_one_column_per_head(
    architecture_class: Callable[..., Architecture],
    make_network: Callable[..., Architecture],
    make_inputs: Callable[..., Inputs],
    generator: torch.Generator,
) -> None:
    for rows, heads in ((1, Heads.free(2)), (7, Heads.free(1)), (7, Heads((None, 0, 1, 0), 3))):
        model = make_network(architecture_class, heads, generator)
        inputs = make_inputs(rows, model.spaces(heads), torch.float32)
        assert model(inputs).shape == (rows, len(heads))


def test_rows_do_not_see_each_other(
    architecture_class: Callable[..., Architecture],
    make_network: Callable[..., Architecture],
    make_inputs: Callable[..., Inputs],
    generator: torch.Generator,
) -> None:
    model = make_network(architecture_class, 2, generator).double()
    whole = make_inputs(9, model.spaces(Heads.free(2)))
    one = Inputs(whole.x_SBX[:, 4:5], whole.vectors_SBFD[:, 4:5], whole.dense_BQ[4:5])
    torch.testing.assert_close(model(whole)[4:5], model(one))


def test_initial_weights_come_from_the_generator_alone(
    architecture_class: Callable[..., Architecture], make_network: Callable[..., Architecture]
) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        make_network(architecture_class, 2, torch.Generator().manual_seed(seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_no_two_hidden_units_start_equal(
    architecture_class: Callable[..., Architecture],
    make_network: Callable[..., Architecture],
    generator: torch.Generator,
) -> None:
    """Experts that start equal stay equal: a published PLE has that fault."""
    for name, weight in make_network(architecture_class, 2, generator).named_parameters():
        if weight.dim() == 3 and weight.any():
            columns = weight.detach().transpose(1, 2).flatten(0, 1)
            assert len(columns.unique(dim=0)) == len(columns), name


def test_the_last_shared_layer_is_one_of_the_shared(
    architecture_class: Callable[..., Architecture],
    make_network: Callable[..., Architecture],
    generator: torch.Generator,
) -> None:
    model = make_network(architecture_class, 3, generator)
    last = model.last_shared()
    assert last is None or any(last is parameter for parameter in model.shared_parameters())


def test_the_page_of_models_is_that_of_the_docstrings() -> None:
    """Also: every choice says its equation, its source, when to use it and what it costs."""
    written = Path(__file__).parents[2] / "docs" / "models.md"
    assert written.read_text() == page(), "run: python -m models.choices > docs/models.md"


def test_a_choice_that_does_not_say_its_cost_is_named() -> None:
    class Silent:
        """A choice.

        Equation: ``x``.
        Source: nobody.
        Use: never.
        """

    with pytest.raises(ValueError, match=r"Silent has no line 'Cost:'"):
        describe(Silent)


@pytest.mark.parametrize("losses", [(0.7, 0.02, 0.4), (0.7, 0.0, 0.4)])
def test_a_balancer_gives_finite_gradients_also_without_rows_of_an_objective(
    balancer_class: Callable[..., Balancer], losses: tuple[float, ...]
) -> None:
    balancer = balancer_class(3, 0)
    leaf_K = torch.tensor(losses).requires_grad_()
    total = balancer.backward(leaf_K * 1.0, Leaves(leaf_K, last=leaf_K))
    assert torch.isfinite(total)
    assert torch.isfinite(leaf_K.grad).all()
