"""One gather against a loop, and the lazy optimiser against Adam written out for every row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.batch import Batch, InputSpec
from models.embedding import PackedEmbedding
from models.entire_space.base import Labels
from models.lazy_adam import LazyAdam, sum_per_row
from models.line import Line


def table(generator: torch.Generator, bag_lengths: tuple[int, ...] = (4, 2)) -> PackedEmbedding:
    return PackedEmbedding(50, 4, bag_lengths=bag_lengths, generator=generator)


def pooled(embedding: PackedEmbedding, rows_BF: Tensor, bag_rows_BL: Tensor) -> Tensor:
    _, vectors_BPD = embedding.gather(rows_BF, bag_rows_BL)
    return embedding.pool(vectors_BPD, bag_rows_BL).flatten(1)


def test_fields_and_means_of_bags_lie_side_by_side(
    make_batch: Callable[..., Batch], generator: torch.Generator
) -> None:
    batch, embedding = make_batch(12), table(generator)
    found = pooled(embedding, batch.rows_BF, batch.bag_rows_BL)
    weight = embedding.weight_RD.numpy()
    for i in range(12):
        expected = [weight[row] for row in batch.rows_BF[i]]
        for bag in (batch.bag_rows_BL[i, :4], batch.bag_rows_BL[i, 4:]):
            members = [weight[row] for row in bag if row != 0]
            expected.append(np.mean(members, axis=0) if members else np.zeros(4))
        np.testing.assert_allclose(found[i], np.concatenate(expected), rtol=1e-6, atol=1e-9)


def test_an_empty_bag_is_zero_and_gives_no_gradient_outside_padding(generator: torch.Generator) -> None:
    embedding = table(generator)
    found = pooled(embedding, torch.ones(1, 3, dtype=torch.int64), torch.zeros(1, 6, dtype=torch.int64))
    assert not found[0, 12:].any()
    assert found[0, :12].any()


def test_values_start_normal_with_the_stated_scale_and_padding_at_zero(generator: torch.Generator) -> None:
    weight_RD = PackedEmbedding(20_000, 8, scale=0.05, generator=generator).weight_RD
    assert not weight_RD[0].any()
    assert weight_RD.std().item() == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("row", [-1, 50])
def test_a_row_outside_the_table_is_refused(generator: torch.Generator, row: int) -> None:
    embedding = table(generator, bag_lengths=())
    with pytest.raises(IndexError):
        embedding.gather(torch.tensor([[1, row]]), torch.zeros(1, 0, dtype=torch.int64))


def adam_by_hand(weight: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray]], rate: float) -> np.ndarray:
    """Kingma and Ba, Algorithm 1 with bias-corrected moments, in float64, one row at a time."""
    weight = weight.astype(np.float64).copy()
    moment, square, count = np.zeros_like(weight), np.zeros_like(weight), np.zeros(len(weight))
    for rows, grads in steps:
        for row in set(rows.tolist()) - {0}:
            g = grads[rows == row].astype(np.float64).sum(axis=0)
            count[row] += 1
            moment[row] = 0.9 * moment[row] + 0.1 * g
            square[row] = 0.999 * square[row] + 0.001 * g**2
            first, second = moment[row] / (1 - 0.9 ** count[row]), square[row] / (1 - 0.999 ** count[row])
            weight[row] -= rate * first / (np.sqrt(second) + 1e-8)
    return weight


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-6, 1e-2, 10.0]))
def test_lazy_adam_is_adam_on_the_rows_of_the_batch(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(12, 3)).astype(np.float32)
    steps = [(rng.integers(0, 9, 20), (size * rng.normal(size=(20, 3))).astype(np.float32)) for _ in range(6)]
    weight_RD = torch.from_numpy(weight.copy())
    optimizer = LazyAdam(weight_RD, rate=0.1)
    for rows, grads in steps:
        optimizer.step(torch.from_numpy(rows), torch.from_numpy(grads))
    np.testing.assert_allclose(weight_RD, adam_by_hand(weight, steps, 0.1), rtol=2e-4, atol=2e-5)
    never = [row for row in range(12) if row == 0 or not any(row in rows for rows, _ in steps)]
    np.testing.assert_array_equal(weight_RD[never], weight[never])


def test_only_rows_of_the_batch_change_weights_and_state(generator: torch.Generator) -> None:
    weight_RD = torch.randn(1000, 4, generator=generator)
    optimizer = LazyAdam(weight_RD, rate=0.1)
    optimizer.step(torch.arange(1000), torch.ones(1000, 4))
    before = {"weight": weight_RD.clone(), **{n: t.clone() for n, t in optimizer.state().items()}}
    optimizer.step(torch.tensor([7, 0, 7, 999, 0]), torch.randn(5, 4, generator=generator))
    for name, tensor in {"weight": weight_RD, **optimizer.state()}.items():
        changed = (tensor != before[name]).view(1000, -1).any(dim=1).nonzero().flatten().tolist()
        assert changed == [7, 999], name


def test_the_first_update_of_a_late_row_is_that_of_a_first_step() -> None:
    optimizer = LazyAdam(torch.zeros(3, 2), rate=0.1)
    for _ in range(500):
        optimizer.step(torch.tensor([1]), torch.ones(1, 2))
    optimizer.step(torch.tensor([2]), torch.full((1, 2), 0.3))
    torch.testing.assert_close(optimizer.weight_RD[2], torch.full((2,), -0.1))


@pytest.mark.parametrize("rows", [[], [0, 0]])
def test_a_batch_without_rows_changes_nothing(rows: list[int]) -> None:
    optimizer = LazyAdam(torch.ones(3, 2), rate=0.1)
    optimizer.step(torch.tensor(rows, dtype=torch.int64), torch.ones(len(rows), 2))
    assert torch.equal(optimizer.weight_RD, torch.ones(3, 2))


def test_duplicates_are_summed_also_beyond_32_bits() -> None:
    far = 2**40
    rows_U, grad_UD = sum_per_row(torch.tensor([far, 3, far]), torch.tensor([[1.0], [2.0], [4.0]]))
    assert rows_U.tolist() == [3, far]
    assert grad_UD.tolist() == [[2.0], [5.0]]


def test_a_line_moves_its_table_by_the_gradient_of_a_dense_table(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch], spec: InputSpec
) -> None:
    """The reference: the same loss through torch's dense lookup, and the first step of Adam."""
    line, batch = make_line(embedding_rate=0.01), make_batch(32)
    dense_RD = line.embedding.weight_RD.clone().requires_grad_()
    parts = [functional.embedding(batch.rows_BF, dense_RD)]
    for rows_Bl in batch.bag_rows_BL.split(spec.bag_lengths, dim=1):
        inside_Bl1 = (rows_Bl != 0).unsqueeze(2)
        total = (functional.embedding(rows_Bl, dense_RD) * inside_Bl1).sum(dim=1)
        parts.append((total / inside_Bl1.sum(dim=1).clamp(min=1)).unsqueeze(1))
    logits_BK = line.network(torch.cat(parts, dim=1), batch.dense_BD)
    told = Labels(*batch.labels, batch.weight_B)
    line.method.losses(logits_BK, told, line.funnel).sum().backward()

    before = line.embedding.weight_RD.clone()
    line.learn(batch)
    g = dense_RD.grad.double()
    g[0] = 0
    torch.testing.assert_close(
        (before - line.embedding.weight_RD).double(), 0.01 * g / (g.abs() + 1e-8), rtol=1e-3, atol=1e-6
    )
    assert not line.embedding.weight_RD[0].any()


def test_a_reset_row_has_the_bytes_it_began_with_and_no_other_row_changes() -> None:
    def fresh() -> PackedEmbedding:
        return PackedEmbedding(50, 4, scale=0.1, generator=torch.Generator().manual_seed(3))

    embedding = fresh()
    embedding.weight_RD[1:] += 1.0
    before = embedding.weight_RD.clone()
    embedding.reset(torch.tensor([7, 49]), torch.Generator().manual_seed(3))
    assert torch.equal(embedding.weight_RD[[7, 49]], fresh().weight_RD[[7, 49]])
    others = [row for row in range(50) if row not in (7, 49)]
    assert torch.equal(embedding.weight_RD[others], before[others])


@pytest.mark.parametrize("row", [-1, 50])
def test_a_row_outside_the_table_cannot_be_reset(generator: torch.Generator, row: int) -> None:
    embedding = table(generator)
    with pytest.raises(IndexError):
        embedding.reset(torch.tensor([row]), torch.Generator())
    with pytest.raises(IndexError):
        LazyAdam(embedding.weight_RD, rate=0.1).reset(torch.tensor([row]))


def test_the_step_after_a_reset_is_that_of_a_first_step(generator: torch.Generator) -> None:
    optimizer = LazyAdam(torch.zeros(3, 2), rate=0.1)
    for _ in range(50):
        optimizer.step(torch.tensor([1, 2]), torch.randn(2, 2, generator=generator))
    kept = {name: tensor[2].clone() for name, tensor in optimizer.state().items()}
    weight = optimizer.weight_RD[1].clone()
    optimizer.reset(torch.tensor([1]))
    optimizer.step(torch.tensor([1]), torch.full((1, 2), 0.3))
    torch.testing.assert_close(optimizer.weight_RD[1], weight - 0.1)
    assert all(torch.equal(tensor[2], kept[name]) for name, tensor in optimizer.state().items())
