"""Balancers against their equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.balancing.base import Leaves
from models.balancing.geometric import Geometric
from models.balancing.grad_norm import GradNorm
from models.balancing.imtl_l import IMTLL
from models.balancing.schedule import Schedule
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


def test_the_geometric_mean_is_over_the_objectives_with_rows() -> None:
    assert Geometric(2, 0)(torch.tensor([0.5, 0.02])).item() == pytest.approx(0.1, rel=1e-6)
    assert Geometric(3, 0)(torch.tensor([0.5, 0.0, 0.02])).item() == pytest.approx(0.1, rel=1e-6)
    assert Geometric(2, 0)(torch.zeros(2)).item() == 0


def test_the_geometric_mean_weighs_by_the_inverse_of_each_loss() -> None:
    losses_K = torch.tensor([0.5, 0.02], dtype=torch.float64, requires_grad=True)
    Geometric(2, 0)(losses_K).backward()
    torch.testing.assert_close(losses_K.grad, 0.1 / 2 / losses_K.detach())


def test_imtl_l_settles_where_all_scaled_losses_are_one() -> None:
    balancer, losses_K = IMTLL(2, 0), torch.tensor([0.7, 0.05])
    assert balancer(losses_K).item() == pytest.approx(0.75)
    descent = torch.optim.SGD(balancer.parameters(), lr=0.5)
    for _ in range(400):
        descent.zero_grad()
        balancer.backward(losses_K, Leaves(losses_K))
        descent.step()
    torch.testing.assert_close(balancer.log_scale_K.exp().detach() * losses_K, torch.ones(2))


def test_a_schedule_by_the_batch_multiplies_after_every_batch() -> None:
    balancer = Schedule(2, 0, weights=(1.0, 4.0), factors=(1.0, 0.5))
    leaf_K = torch.tensor([0.5, 0.25]).requires_grad_()
    totals = [balancer.backward(leaf_K * 1.0, Leaves(leaf_K)).item() for _ in range(3)]
    assert totals == [0.5 + 1.0, 0.5 + 0.5, 0.5 + 0.25]
    assert balancer.state_dict()["count"] == 3


def test_a_schedule_by_the_day_multiplies_when_a_day_begins_and_goes_on_from_a_checkpoint() -> None:
    balancer = Schedule(1, 0, factors=(0.5,), unit="day")
    leaf_K = torch.ones(1, requires_grad=True)
    totals = []
    for _ in range(2):
        balancer.begin_day()
        totals += [balancer.backward(leaf_K * 1.0, Leaves(leaf_K)).item() for _ in range(2)]
    assert totals == [1.0, 1.0, 0.5, 0.5]
    restored = Schedule(1, 0, factors=(0.5,), unit="day")
    restored.load_state_dict(balancer.state_dict())
    restored.begin_day()
    assert restored(torch.ones(1)).item() == 0.25


@pytest.mark.parametrize(
    ("weights", "factors"), [((1.0,), (1.0, 1.0)), ((1.0, -1.0), None), (None, (0.0, 1.0))]
)
def test_a_schedule_refuses_other_numbers(
    weights: tuple[float, ...] | None, factors: tuple[float, ...] | None
) -> None:
    with pytest.raises(ValueError, match="Expected 2 weights"):
        Schedule(2, 0, weights=weights, factors=factors)


def test_grad_norm_moves_its_weights_by_the_papers_second_loss() -> None:
    """Two objectives by hand: norms 3 and 0.5 at W; the second one's loss fell less, so it lags behind."""
    balancer = GradNorm(2, 0, alpha=1.5)
    shared = torch.tensor([1.0, 2.0], requires_grad=True)

    def losses() -> Tensor:
        return torch.stack([3.0 * shared[0], 0.5 * shared[1]])

    balancer.backward(losses(), Leaves(torch.zeros(0), last=shared))
    # the first batch: all rates are 1, the target is the mean (3 + 0.5) / 2
    torch.testing.assert_close(balancer.weight_K.grad, torch.tensor([3.0, -0.5]))
    torch.testing.assert_close(shared.grad, torch.tensor([3.0, 0.5]))

    balancer.weight_K.data = torch.tensor([0.5, 3.5])  # renormalised to sum 2: 0.25 and 1.75
    shared.data = torch.tensor([0.2, 1.8])
    weights = torch.tensor([0.25, 1.75], dtype=torch.float64, requires_grad=True)
    norms = torch.tensor([3.0, 0.5], dtype=torch.float64)
    rates = torch.tensor([0.2, 0.9], dtype=torch.float64) / 0.55
    weighted = weights * norms
    target = (weighted.mean() * rates**1.5).detach()
    (weighted - target).abs().sum().backward()
    shared.grad = None
    balancer.backward(losses(), Leaves(torch.zeros(0), last=shared))
    torch.testing.assert_close(balancer.weight_K.detach(), torch.tensor([0.25, 1.75]))
    torch.testing.assert_close(balancer.weight_K.grad.double(), weights.grad)
    torch.testing.assert_close(shared.grad, torch.tensor([0.75, 0.875]))


def test_grad_norm_asks_for_a_layer_and_for_a_pull_that_is_not_negative() -> None:
    with pytest.raises(ValueError, match="last shared layer"):
        GradNorm(2, 0).backward(torch.ones(2), Leaves(torch.zeros(0)))
    with pytest.raises(ValueError, match="negative"):
        GradNorm(2, 0, alpha=-1.0)
