"""DWA, FAMO, MetaBalance, AdaTask and row-wise Adam against their equations and other libraries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd import scalarization

from models.balancing.ada_task import AdaTask
from models.balancing.base import Leaves
from models.balancing.dwa import DWA
from models.balancing.famo import FAMO
from models.balancing.meta_balance import MetaBalance
from models.balancing.static import Static
from models.batch import Batch
from models.line import Line
from models.row_wise_adam import RowWiseAdam
from models.shared_bottom import SharedBottom


def test_dwa_weighs_by_the_windows_of_the_paper_and_torchjd() -> None:
    balancer, theirs = DWA(3, 0, window=4, temperature=2.0), scalarization.DWA(temperature=2.0)
    losses = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 1.0, (20, 3))).float()
    leaf_K = torch.zeros(3, requires_grad=True)
    for step, losses_K in enumerate(losses, start=1):
        total = balancer.backward(leaf_K + losses_K, Leaves(leaf_K))
        torch.testing.assert_close(total, theirs(losses_K))
        if step % 4 == 0:
            theirs.step()
        if step == 10:  # a checkpoint in the middle of a window
            restored = DWA(3, 0, window=4, temperature=2.0)
            restored.load_state_dict(balancer.state_dict())
            balancer = restored
    assert balancer.weights().sum() == pytest.approx(3.0)


def test_dwa_counts_batches_with_rows_alone_and_takes_an_absent_objective_as_one_that_stands_still() -> None:
    balancer, leaf_K = DWA(3, 0, window=2, temperature=1.0), torch.zeros(3, requires_grad=True)
    # the second objective is in one batch of the first window alone; the third comes in the second window
    for losses in ((0.8, 0.4, 0.0), (0.4, 0.0, 0.0), (0.3, 0.0, 0.5), (0.3, 0.0, 0.7)):
        assert balancer.weights().tolist() == [1.0, 1.0, 1.0]
        balancer.backward(leaf_K + torch.tensor(losses), Leaves(leaf_K))
    torch.testing.assert_close(balancer.means_2K, torch.tensor([[0.3, 0.4, 0.6], [0.6, 0.4, 0.0]]))
    expected = 3 * torch.softmax(torch.tensor([0.5, 1.0, 1.0]), dim=0)
    torch.testing.assert_close(balancer.weights(), expected)


def test_famo_moves_as_torchjds_and_goes_on_from_a_checkpoint() -> None:
    balancer, theirs = FAMO(3, 0, rate=0.1, decay=0.01), scalarization.FAMO(3, lr=0.1, weight_decay=0.01)
    rng = np.random.default_rng(0)
    for step in range(12):
        before, after = torch.from_numpy(rng.uniform(0.05, 1.0, (2, 3))).float()
        mine, other = (before.clone().requires_grad_() for _ in range(2))
        balancer.backward(mine * 1.0, Leaves(mine))
        theirs(other).backward()
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-6)
        balancer.after(after)
        theirs.update(after)
        if step == 5:
            restored = FAMO(3, 0, rate=0.1, decay=0.01)
            restored.load_state_dict(balancer.state_dict())
            balancer = restored
    torch.testing.assert_close(balancer.logit_K, next(theirs.parameters()).detach(), rtol=1e-4, atol=1e-6)


def test_famo_leaves_an_objective_without_rows_out() -> None:
    """The others get what a funnel without it would give, and its logit moves with nothing but its weight."""
    two, three = FAMO(2, 0), FAMO(3, 0)
    leaf_2, leaf_3 = torch.tensor([0.5, 0.2]).requires_grad_(), torch.tensor([0.5, 0.2, 0.0]).requires_grad_()
    two.backward(leaf_2 * 1.0, Leaves(leaf_2))
    three.backward(leaf_3 * torch.tensor([1.0, 1.0, 0.0]), Leaves(leaf_3))
    torch.testing.assert_close(leaf_3.grad, torch.cat((leaf_2.grad, torch.zeros(1))))
    three.after(torch.tensor([0.5, 0.2, 0.0]))
    assert three.logit_K.tolist() == [0.0, 0.0, 0.0]


def test_the_second_pass_is_that_of_the_moved_weights_on_the_same_batch(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    """What ``after`` is given are the losses that the line itself reports when the batch is learned again."""
    told: list[Tensor] = []

    class Told(FAMO):
        def after(self, losses_K: Tensor) -> None:
            told.append(losses_K)
            super().after(losses_K)

    line, batch = make_line(balancer=Told, negative_rates=(0.5, 1.0, 1.0, 1.0)), make_batch(64)
    first, second = line.learn(batch), line.learn(batch)
    assert torch.equal(told[0], second)
    assert not torch.equal(told[0], first)
    assert not told[0].requires_grad
    assert {"balancer.logit_K", "balancer.moment_K", "balancer.square_K", "balancer.steps"} <= set(
        line.state()
    )


def test_meta_balance_scales_every_block_by_running_norms() -> None:
    """Written out in float64 over four batches; the target is absent in the third."""
    balancer = MetaBalance(2, 1, target=0).double()
    rng, norm = np.random.default_rng(0), np.zeros((2, 2))
    for step in range(4):
        slopes = rng.normal(size=(2, 2, 3)) * np.array([1.0, 20.0])[:, None, None]
        seen = np.array([step != 2, True])
        shared, vectors, own = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(3))
        shared_slopes, vector_slopes = torch.from_numpy(slopes).unbind(dim=1)
        losses_K = shared_slopes @ shared + vector_slopes @ vectors + own.sum() + 1.0
        losses_K = losses_K * torch.from_numpy(seen)
        balancer.backward(losses_K, Leaves(vectors, (shared,), (own,)))
        for block, leaf in enumerate((shared, vectors)):
            for k in range(2):
                if seen[k]:
                    norm[block, k] = 0.9 * norm[block, k] + 0.1 * np.linalg.norm(slopes[k, block])
            auxiliary = slopes[1, block] * (0.7 * norm[block, 0] / norm[block, 1] + 0.3)
            expected = torch.from_numpy(seen[0] * slopes[0, block] + auxiliary)
            torch.testing.assert_close(leaf.grad, expected, rtol=1e-6, atol=1e-9)
        assert own.grad.tolist() == [float(seen.sum())] * 3
    torch.testing.assert_close(balancer.norm_MK, torch.from_numpy(norm))


def test_meta_balance_leaves_what_it_cannot_compare() -> None:
    """A block that the target has never reached, and a funnel of one."""
    shared, vectors = (torch.ones(2, requires_grad=True) for _ in range(2))
    losses_K = torch.stack([5.0 * shared.sum(), vectors.sum()])
    MetaBalance(2, 1).backward(losses_K, Leaves(vectors, (shared,)))
    assert (shared.grad.tolist(), vectors.grad.tolist()) == ([5.0, 5.0], [1.0, 1.0])
    one = torch.ones(2, requires_grad=True)
    MetaBalance(1, 0).backward(3.0 * one.sum().unsqueeze(0), Leaves(one))
    assert one.grad.tolist() == [3.0, 3.0]


def test_ada_task_moves_shared_weights_by_the_steps_of_one_adam_per_objective() -> None:
    """Torch's own Adam for each objective from the same weight; the second one has no rows in batch 3."""
    generator = torch.Generator().manual_seed(0)
    slopes_TKn = torch.randn(6, 2, 5, generator=generator) * torch.tensor([[1.0], [1e-3]])
    shared, own = torch.ones(5, requires_grad=True), torch.ones(2, requires_grad=True)
    vectors = torch.zeros(1, 1, 1, requires_grad=True)
    alone = [torch.ones(5, requires_grad=True) for _ in range(2)]
    adams = [torch.optim.Adam([weight], lr=0.01) for weight in alone]
    other = torch.ones(2, requires_grad=True)
    plain = torch.optim.AdamW([other], lr=0.01, weight_decay=0.1)
    balancer, leaves = AdaTask(2, 1), Leaves(vectors, (shared,), (own,))
    optimizer = balancer.dense_optimizer(leaves, rate=0.01, weight_decay=0.1)
    expected = torch.ones(5)
    for step, slopes_Kn in enumerate(slopes_TKn):
        seen = [True, step != 3]
        losses_K = (slopes_Kn @ shared + own + vectors.sum() + 1.0) * torch.tensor(seen)
        balancer.backward(losses_K, leaves)
        optimizer.step()
        expected = expected * (1 - 0.01 * 0.1)
        for k in range(2):
            before = alone[k].detach().clone()
            if seen[k]:
                alone[k].grad = slopes_Kn[k]
                adams[k].step()
            expected = expected + (alone[k].detach() - before)
        other.grad = torch.tensor(seen).float()
        plain.step()
        torch.testing.assert_close(shared.detach(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(own.detach(), other.detach())
    assert optimizer.state[shared]["step"].tolist() == [6.0, 5.0]


def test_ada_task_gives_rows_the_gradient_of_every_objective(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line(balancer=AdaTask, architecture=SharedBottom)
    line.learn(make_batch(32))
    state = line.state()
    assert state["embedding_optimizer.square_RK"].shape == (50, 4)
    assert (state["embedding_optimizer.square_RK"] > 0).any(dim=0).all()
    moments = [tensor for name, tensor in state.items() if name.endswith("exp_avg") and "bottom" in name]
    assert moments
    assert all(tensor.shape[0] == 4 for tensor in moments)
    assert all(tensor.flatten(1).any(dim=1).all() for tensor in moments)


def test_ada_task_is_adam_where_one_objective_has_rows(
    make_line: Callable[..., Line], make_tree: Callable[..., object], make_batch: Callable[..., Batch]
) -> None:
    """Beside ``Static``, with the same row-wise optimiser of the table and a decay of the weights."""
    rng = np.random.default_rng(0)
    kept = {"y": rng.integers(0, 2, (32, 2)).astype(np.float32), "trains": np.ones((32, 2), dtype=np.bool_)}
    kept["y"][:, 1] = 0.0
    kept["trains"][:, 1] = False
    settings = {"architecture": SharedBottom, "funnel": make_tree(None, 0), "weight_decay": 0.1}
    ours = make_line(balancer=AdaTask, **settings)
    plain = make_line(balancer=Static, embedding_optimizer=RowWiseAdam, **settings)
    for seed in range(3):
        for line in (ours, plain):
            line.learn(make_batch(32, seed, **kept))
    shared = (line.network.architecture.shared_parameters() for line in (ours, plain))
    for mine, other in zip(*shared, strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(ours.embedding.weight_RD, plain.embedding.weight_RD)


def test_row_wise_adam_is_its_equation_row_by_row_with_repeats_and_padding() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 3))
    weight[0] = 0.0
    table = torch.from_numpy(weight.copy())
    optimizer = RowWiseAdam(table, rate=0.1, objectives=2, beta=0.9)
    square, count = np.zeros((6, 2)), np.zeros((6, 2), dtype=int)
    for step in range(4):
        rows = np.array([0, 2, 5, 2, 1])
        grads = rng.normal(size=(2, 5, 3)) * np.array([1.0, 100.0])[:, None, None]
        grads[1, [1, 3]] = 0.0  # the second objective does not reach row 2 ...
        if step == 1:
            grads[:, 4] = 0.0  # ... and none row 1 in the second step
        optimizer.step(torch.from_numpy(rows), torch.from_numpy(grads))
        for row in (1, 2, 5):
            for k in range(2):
                g = grads[k, rows == row].sum(axis=0)
                if g.any():
                    count[row, k] += 1
                    square[row, k] = 0.9 * square[row, k] + 0.1 * (g**2).mean()
                    weight[row] -= 0.1 * g / (np.sqrt(square[row, k] / (1 - 0.9 ** count[row, k])) + 1e-8)
        torch.testing.assert_close(table, torch.from_numpy(weight))
    assert np.array_equal(optimizer.steps_RK.numpy(), count)
    optimizer.reset(torch.tensor([2]))
    assert not optimizer.square_RK[2].any()


def test_row_wise_adam_alone_is_torchs_adam_without_a_first_moment_for_vectors_of_one_number() -> None:
    table, generator = torch.ones(4, 1), torch.Generator().manual_seed(0)
    weight = torch.ones(3, 1, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=0.05, betas=(0.0, 0.999))
    optimizer = RowWiseAdam(table, rate=0.05)
    for _ in range(5):
        grad_ND = torch.randn(3, 1, generator=generator)
        weight.grad = grad_ND.clone()
        adam.step()
        optimizer.step(torch.tensor([1, 2, 3]), grad_ND)
    torch.testing.assert_close(table[1:], weight.detach())


@pytest.mark.parametrize(
    "wrong",
    [
        partial(DWA, window=0),
        partial(DWA, temperature=0.0),
        partial(FAMO, rate=-1.0),
        partial(MetaBalance, target=2),
        partial(MetaBalance, beta=1.0),
        partial(MetaBalance, relax=1.5),
    ],
)
def test_settings_out_of_range_are_refused(wrong: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="got"):
        wrong(2, 0)
