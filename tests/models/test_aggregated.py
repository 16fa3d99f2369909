"""Balancers that weigh gradients, against their closed forms, TorchJD's own classes, and values it printed.

Shapes: K objectives, M numbers that are compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchjd import aggregation

from features.funnel import Funnel
from models.balancing.aggregated import Aggregated
from models.balancing.aligned_mtl import AlignedMTL
from models.balancing.base import Balancer, Leaves
from models.balancing.ca_grad import CAGrad
from models.balancing.fair_grad import FairGrad
from models.balancing.grad_vac import GradVac
from models.balancing.imtl_g import IMTLG
from models.balancing.mgda import MGDA
from models.balancing.nash_mtl import NashMTL
from models.balancing.pcgrad import PCGrad
from models.balancing.up_grad import UPGrad
from models.batch import Batch, InputSpec
from models.entire_space.esmm import ESMM
from models.line import Line
from models.shared_bottom import SharedBottom

#: Rows of the example in TorchJD's documentation, and a case of three objectives that all disagree a little.
TWO = ((-4.0, 1.0, 1.0), (6.0, 1.0, 1.0))
THREE = ((1.0, 0.5, -0.2, 0.3), (-0.4, 0.8, 0.1, 0.2), (0.3, -0.6, 0.9, -0.1))
ALL = (PCGrad, GradVac, MGDA, IMTLG, AlignedMTL, UPGrad, CAGrad, FairGrad, NashMTL)


def aggregated(balancer: Balancer, jacobian_KM: Tensor, present: tuple[bool, ...] | None = None) -> Tensor:
    """What a balancer makes of gradients, of which one number is a shared parameter, the rest vectors."""
    shared = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    vectors = torch.zeros(1, 1, jacobian_KM.shape[1] - 1, dtype=torch.float64, requires_grad=True)
    own = torch.zeros(len(jacobian_KM), dtype=torch.float64, requires_grad=True)
    losses_K = jacobian_KM @ torch.cat((shared, vectors.flatten())) + 2.0 * own + 1.0
    if present is not None:
        losses_K = losses_K * torch.tensor(present)
    balancer.backward(losses_K, Leaves(vectors, (shared,), (own,)))
    assert own.grad.tolist() == [2.0 * row for row in present or (True,) * len(jacobian_KM)]
    return torch.cat((shared.grad, vectors.grad.flatten()))


def rows(case: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(case, dtype=torch.float64)


@pytest.mark.parametrize("case", [TWO, THREE])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (MGDA, aggregation.MGDA),
        (IMTLG, aggregation.IMTLG),
        (AlignedMTL, aggregation.AlignedMTL),
        (partial(AlignedMTL, scale="rmse"), partial(aggregation.AlignedMTL, scale_mode="rmse")),
        (partial(FairGrad, alpha=2.0), partial(aggregation.FairGrad, alpha=2.0)),
        (partial(FairGrad, alpha=0.5), partial(aggregation.FairGrad, alpha=0.5)),
        (partial(FairGrad, alpha=0.0), partial(aggregation.FairGrad, alpha=0.0)),
    ],
)
def test_the_update_is_that_of_torchjd_on_the_whole_jacobian(
    ours: Callable[..., Aggregated],
    theirs: Callable[..., aggregation.Aggregator],
    case: tuple[tuple[float, ...], ...],
) -> None:
    got = aggregated(ours(len(case), 1), rows(case))
    torch.testing.assert_close(got, theirs()(rows(case)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("balancer", "case", "printed"),
    [
        # TorchJD 0.18.0 with quadprog 0.1.14, cvxpy 1.9.3, clarabel 0.11.1 and ecos 2.0.14, in an environment
        # of its own; UPGrad on TWO also stands in its documentation as (0.2929, 1.9004, 1.9004)
        (partial(UPGrad, regularization=1e-4), TWO, (0.292902000157, 1.900352078002, 1.900352078002)),
        (
            partial(UPGrad, regularization=1e-4),
            THREE,
            (0.326190243337, 0.322320190821, 0.464425614351, 0.175808026496),
        ),
        (partial(CAGrad, c=0.5), TWO, (0.183503420415, 1.204124147917, 1.204124147917)),
        (partial(CAGrad, c=0.5), THREE, (0.241552421944, 0.350228508740, 0.466053441632, 0.172032763411)),
        (NashMTL, TWO, (0.054153251092, 0.706069198236, 0.706069198236)),
        (NashMTL, THREE, (0.418351938387, 0.516442271360, 0.699109002162, 0.263658186096)),
    ],
)
def test_the_update_is_what_torchjd_printed_with_its_solvers(
    balancer: Callable[..., Aggregated], case: tuple[tuple[float, ...], ...], printed: tuple[float, ...]
) -> None:
    got = aggregated(balancer(len(case), 1), rows(case))
    torch.testing.assert_close(got, rows((printed,))[0], rtol=1e-5, atol=1e-5)


def test_two_objectives_by_hand() -> None:
    """Every method solved on paper for two gradients with inner product -22 and squared norms 18 and 38."""
    g1, g2 = rows(TWO)
    a, b, ab = 18.0, 38.0, -22.0
    w1 = (b - ab) / (a + b - 2 * ab)
    v1, v2 = (b - ab * math.sqrt(b / a)), (a * math.sqrt(b / a) - ab)
    nash1 = 1 / math.sqrt(a + ab * math.sqrt(a / b))
    length = math.sqrt(2.0)  # of Nash's update before it is cut: sum_k w_k (G G^T w)_k = K
    expected = {
        PCGrad: g1 - ab / b * g2 + g2 - ab / a * g1,
        MGDA: w1 * g1 + (1 - w1) * g2,
        IMTLG: (v1 * g1 + v2 * g2) / (v1 + v2),
        UPGrad: ((g1 - ab / b * g2) + (g2 - ab / a * g1)) / 2,
        NashMTL: (nash1 * g1 + nash1 * math.sqrt(a / b) * g2) / length,
    }
    for balancer, update in expected.items():
        torch.testing.assert_close(aggregated(balancer(2, 1), rows(TWO)), update, rtol=1e-6, atol=1e-6)


def test_ca_grad_is_the_best_of_a_fine_search_for_two_objectives() -> None:
    for c in (0.1, 0.5, 0.9):
        jacobian = rows(TWO).numpy()
        mean = jacobian.mean(axis=0)
        radius, low, high = c * np.linalg.norm(mean), 0.0, 1.0
        for _ in range(4):
            grid = np.linspace(low, high, 1001)[:, None]
            worst = grid * jacobian[0] + (1 - grid) * jacobian[1]
            place = np.argmin(worst @ mean + radius * np.linalg.norm(worst, axis=1))
            best, low, high = worst[place], *grid[[max(place - 1, 0), min(place + 1, 1000)], 0]
        update = torch.from_numpy(mean + radius * best / np.linalg.norm(best))
        torch.testing.assert_close(aggregated(CAGrad(2, 1, c=c), rows(TWO)), update, rtol=1e-5, atol=1e-5)


def test_ca_grad_stands_still_where_gradients_cancel_and_is_the_mean_without_a_ball() -> None:
    assert aggregated(CAGrad(2, 1), rows(((1.0, 2.0), (-1.0, -2.0)))).tolist() == [0.0, 0.0]
    # half as far back as the ball's centre is away: a quarter of (-1, -2)
    update = aggregated(CAGrad(2, 1, c=0.5), rows(((1.0, 2.0), (-2.0, -4.0))))
    torch.testing.assert_close(update, rows(((-0.25, -0.5),))[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(aggregated(CAGrad(3, 1, c=0.0), rows(THREE)), rows(THREE).mean(dim=0))


def test_up_grad_hurts_no_objective_however_small_its_gradient() -> None:
    """Brute force over which constraints bind; TorchJD's regularisation would give up the small one."""
    jacobian = rows(THREE) * rows(((1.0,), (30.0,), (1e-2,)))
    update = aggregated(UPGrad(3, 1), jacobian)
    projected = []
    for g in jacobian:
        candidates = []
        for count in range(4):
            for bound in itertools.combinations(range(3), count):
                near = jacobian[list(bound)]
                x = g - (torch.linalg.pinv(near) @ near @ g if bound else 0.0)
                if (jacobian @ x / jacobian.norm(dim=1)).min() > -1e-12:
                    candidates.append(x)
        projected.append(min(candidates, key=lambda x: (x - g).norm()))
    torch.testing.assert_close(update, torch.stack(projected).mean(dim=0), rtol=1e-5, atol=1e-7)
    assert (jacobian @ update / jacobian.norm(dim=1)).min() > -1e-5


def test_fairness_holds_for_gradients_that_differ_by_orders_of_magnitude() -> None:
    jacobian = rows(THREE) * rows(((1.0,), (1e3,), (1e-4,)))
    for alpha in (0.5, 1.0, 2.0, 8.0):
        weight = FairGrad(3, 1, alpha=alpha).weights(jacobian @ jacobian.T, torch.ones(3, dtype=torch.bool))
        torch.testing.assert_close(jacobian @ jacobian.T @ weight, weight ** (-1 / alpha), rtol=1e-5, atol=0)


def test_pc_grad_follows_its_paper_in_the_order_of_its_seed() -> None:
    """The algorithm on whole gradients; the order is drawn as the balancer says, and so differs by batch."""
    jacobian = rows(((1.0, 0.0), (-0.6, 0.8), (-0.5, -0.9)))
    balancer = PCGrad(3, 1, seed=3)
    for step in range(4):
        generator = torch.Generator().manual_seed((3 << 40) + step)
        total = torch.zeros(2, dtype=torch.float64)
        for i in range(3):
            g = jacobian[i].clone()
            for j in torch.randperm(3, generator=generator).tolist():
                if j != i and g @ jacobian[j] < 0:
                    g -= (g @ jacobian[j]) / (jacobian[j] @ jacobian[j]) * jacobian[j]
            total += g
        torch.testing.assert_close(aggregated(balancer, jacobian), total)


def test_grad_vac_turns_two_gradients_to_their_running_cosine_and_goes_on_from_a_checkpoint() -> None:
    """Written out on whole gradients in float64 over five batches; the third lacks one objective."""
    balancer, mean = GradVac(2, 1, beta=0.3), np.zeros((2, 2))
    rng = np.random.default_rng(0)
    for step in range(5):
        jacobian = rng.normal(size=(2, 4)) + 0.5 * step
        if step == 2:
            got = aggregated(balancer, torch.from_numpy(jacobian), (True, False))
            torch.testing.assert_close(got, torch.from_numpy(jacobian[0]))
            restored = GradVac(2, 1, beta=0.3)
            restored.load_state_dict(balancer.state_dict())
            balancer = restored
            continue
        total = np.zeros(4)
        for i, j in ((0, 1), (1, 0)):
            g, other = jacobian[i], jacobian[j]
            cosine = g @ other / np.linalg.norm(g) / np.linalg.norm(other)
            s = math.sqrt(1 - cosine**2), math.sqrt(1 - mean[i, j] ** 2)
            pull = np.linalg.norm(g) * (mean[i, j] * s[0] - cosine * s[1]) / (np.linalg.norm(other) * s[1])
            total += g + max(pull, 0.0) * other * (cosine < mean[i, j])
            mean[i, j] = 0.7 * mean[i, j] + 0.3 * cosine
        got = aggregated(balancer, torch.from_numpy(jacobian))
        torch.testing.assert_close(got, torch.from_numpy(total), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("balancer", ALL)
def test_an_absent_objective_leaves_the_others_as_if_it_were_not_there(
    balancer: Callable[..., Aggregated],
) -> None:
    before = torch.get_rng_state()
    got = aggregated(balancer(3, 1), rows((*TWO, (9.0, -9.0, 9.0))), (True, True, False))
    torch.testing.assert_close(got, aggregated(balancer(2, 1), rows(TWO)), rtol=1e-6, atol=1e-6)
    none = aggregated(balancer(2, 1), rows(TWO), (False, False))
    assert none.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("balancer", ALL)
def test_one_objective_keeps_its_gradient_and_the_same_gradient_twice_keeps_its_direction(
    balancer: Callable[..., Aggregated],
) -> None:
    assert torch.equal(aggregated(balancer(1, 1), rows(TWO[:1])), rows(TWO)[0])
    twice = aggregated(balancer(2, 1), rows((TWO[1], TWO[1])))
    torch.testing.assert_close(twice / twice.norm(), rows(TWO)[1] / rows(TWO)[1].norm(), rtol=1e-5, atol=0)


def test_a_gradient_that_is_not_finite_goes_on_to_be_refused() -> None:
    broken = rows(TWO).clone()
    broken[1, 2] = math.inf
    for balancer in ALL:
        assert not torch.isfinite(aggregated(balancer(2, 1), broken)).all()


class Largest(TorchDispatchMode):
    """The largest memory that an operation made which is not one of those known before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        result = func(*args, **(kwargs or {}))
        for found in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(found, Tensor) and found.untyped_storage().data_ptr() not in self.known:
                self.nbytes = max(self.nbytes, found.untyped_storage().nbytes())
        return result


def test_nothing_of_the_tables_size_is_made(
    balancer_class: Callable[..., Balancer], funnel: Funnel, make_batch: Callable[..., Batch]
) -> None:
    spec = InputSpec(num_rows=200_000, num_fields=3, bag_lengths=(4, 2), num_dense=2)
    settings = {"dim": 4, "dense_rate": 1e-2, "embedding_rate": 1e-2, "seed": 0}
    build = partial(SharedBottom, bottom=(8,), layers=(4,))
    line = Line.fresh(spec, funnel, architecture=build, method=ESMM(), balancer=balancer_class, **settings)
    batch = make_batch(64, 0)
    with Largest(list(line.state().values())) as largest:
        line.learn(batch)
    assert 0 < largest.nbytes < 200_000
