"""Balancers against their equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.balancing.base import Leaves
from models.balancing.static import Static
from models.balancing.uncertainty import Uncertainty


def test_static_is_the_weighted_sum() -> None:
    assert Static(2, 0, weights=(1.0, 3.0))(torch.tensor([0.5, 0.25])).item() == 1.25
    assert Static(2, 0)(torch.tensor([0.5, 0.25])).item() == 0.75


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0)])
def test_static_refuses_other_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Expected 2 weights"):
        Static(2, 0, weights=weights)


def test_uncertainty_is_kendalls_classification_form() -> None:
    balancer = Uncertainty(2, 0)
    balancer.log_variance_K.data = torch.tensor([0.3, -2.0])
    expected = math.exp(-0.3) * 0.7 + 0.15 + math.exp(2.0) * 0.02 - 1.0
    assert balancer(torch.tensor([0.7, 0.02])).item() == pytest.approx(expected, rel=1e-6)


def test_uncertainty_gradient_equals_finite_differences() -> None:
    balancer = Uncertainty(3, 0).double()

    def total(losses_K: Tensor, log_variance_K: Tensor) -> Tensor:
        return torch.func.functional_call(balancer, {"log_variance_K": log_variance_K}, (losses_K,))

    leaves = torch.tensor([[0.7, 0.02, 1.4], [0.1, -3.0, 0.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(total, [leaf.clone().requires_grad_() for leaf in leaves])


def test_uncertainty_settles_at_the_log_of_twice_the_loss_also_below_zero() -> None:
    """A clamp at zero, as in one published implementation, would stop the rare objective at weight 1."""
    balancer, losses_K = Uncertainty(2, 0), torch.tensor([0.7, 0.01])
    descent = torch.optim.SGD(balancer.parameters(), lr=0.5)
    for _ in range(200):
        descent.zero_grad()
        balancer.backward(losses_K, Leaves(losses_K))
        descent.step()
    torch.testing.assert_close(balancer.log_variance_K.detach(), torch.log(2 * losses_K))


def test_an_objective_without_rows_has_no_say_in_its_weight() -> None:
    balancer = Uncertainty(2, 0)
    balancer.backward(torch.tensor([0.7, 0.0]), Leaves(torch.zeros(2)))
    assert balancer.log_variance_K.grad.tolist()[1] == 0
    assert balancer.log_variance_K.grad.tolist()[0] != 0
