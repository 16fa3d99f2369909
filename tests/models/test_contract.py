"""What every architecture, method and balancer promises; new files are met here without an edit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from features.funnel import Funnel
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.batch import Batch
from models.entire_space.base import EntireSpace


def test_every_parameter_learns(
    architecture_class: Callable[..., Architecture],
    method_class: type[EntireSpace],
    balancer_class: Callable[[int], Balancer],
    funnel: Funnel,
    make_batch: Callable[..., Batch],
    generator: torch.Generator,
) -> None:
    batch = make_batch(64)
    model, balancer = architecture_class(6, 4, generator=generator), balancer_class(4)
    x_BD = torch.randn(64, 6, generator=generator).requires_grad_()
    losses_K = method_class().losses(model(x_BD), *batch.labels, batch.weight_B, funnel)
    logged = balancer.backward(losses_K, [*model.shared_parameters(), x_BD])
    assert logged.shape == ()
    assert not logged.requires_grad
    learning = [*model.named_parameters(), *balancer.named_parameters(), ("input", x_BD)]
    assert [name for name, p in learning if p.grad is None or not p.grad.any()] == []


def test_logits_have_one_column_per_objective(
    architecture_class: Callable[..., Architecture], generator: torch.Generator
) -> None:
    for rows, objectives in ((1, 2), (7, 1), (7, 4)):
        model = architecture_class(6, objectives, generator=generator)
        assert model(torch.ones(rows, 6)).shape == (rows, objectives)


def test_rows_do_not_see_each_other(
    architecture_class: Callable[..., Architecture], generator: torch.Generator
) -> None:
    model = architecture_class(6, 2, generator=generator).double()
    x_BD = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(model(x_BD)[4:5], model(x_BD[4:5]))


def test_initial_weights_come_from_the_generator_alone(
    architecture_class: Callable[..., Architecture],
) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        architecture_class(6, 2, generator=torch.Generator().manual_seed(seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_no_two_hidden_units_start_equal(
    architecture_class: Callable[..., Architecture], generator: torch.Generator
) -> None:
    """Experts that start equal stay equal: a published PLE has that fault."""
    for name, weight in architecture_class(6, 2, generator=generator).named_parameters():
        if weight.dim() == 3 and weight.any():
            columns = weight.detach().transpose(1, 2).flatten(0, 1)
            assert len(columns.unique(dim=0)) == len(columns), name


@pytest.mark.parametrize("losses", [(0.7, 0.02, 0.4), (0.7, 0.0, 0.4)])
def test_a_balancer_gives_finite_gradients_also_without_rows_of_an_objective(
    balancer_class: Callable[[int], Balancer], losses: tuple[float, ...]
) -> None:
    balancer = balancer_class(3)
    leaf_K = torch.tensor(losses).requires_grad_()
    total = balancer.backward(leaf_K * 1.0, [leaf_K])
    assert torch.isfinite(total)
    assert torch.isfinite(leaf_K.grad).all()
