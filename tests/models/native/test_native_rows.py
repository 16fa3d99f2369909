"""Steps of table rows by the kernels, against the equations row by row in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.embedding import PackedEmbedding
from models.lazy_adam import LazyAdam
from models.native.finite import all_finite
from models.native.rows import widened
from models.row_optimizer import RowOptimizer
from models.row_wise_adagrad import RowWiseAdagrad

pytestmark = pytest.mark.usefixtures("use_kernels")
BETAS, EPSILON = (0.9, 0.999), 1e-8


def adagrad(state: dict[str, np.ndarray], row: int, grad: np.ndarray, rate: float) -> None:
    state["sum"][row] += np.mean(grad**2)
    state["weight"][row] -= rate * grad / (np.sqrt(state["sum"][row]) + EPSILON)


def adam(state: dict[str, np.ndarray], row: int, grad: np.ndarray, rate: float) -> None:
    state["steps"][row] += 1
    taken = state["steps"][row]
    for name, beta, of in (("moment", BETAS[0], grad), ("square", BETAS[1], grad**2)):
        state[name][row] = beta * state[name][row] + (1 - beta) * of
    moment, square = (
        state[n][row] / (1 - b**taken) for n, b in zip(("moment", "square"), BETAS, strict=True)
    )
    state["weight"][row] -= rate * moment / (np.sqrt(square) + EPSILON)


@pytest.mark.parametrize(("optimizer", "by_hand"), [(RowWiseAdagrad, adagrad), (LazyAdam, adam)])
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from((1, 3, 15, 16, 17, 48)),
    count=st.integers(0, 80),
    size=st.sampled_from((1e-4, 1.0, 30.0)),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_move_as_their_equation_says_and_no_other_does(
    optimizer: type[RowOptimizer],
    by_hand: Callable[..., None],
    seed: int,
    width: int,
    count: int,
    size: float,
    dtype: torch.dtype,
) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(30, width)).astype(np.float32)
    weight = first.astype(np.float64)
    state = {name: np.zeros_like(weight) for name in ("moment", "square")}
    state |= {"weight": weight, "sum": np.zeros(30), "steps": np.zeros(30)}
    moved = optimizer(torch.from_numpy(first.copy()), rate=0.01)
    seen = {0}
    for _ in range(4):
        rows = rng.integers(0, 20, count)
        told = torch.from_numpy(size * rng.normal(size=(count, width))).to(dtype)
        moved.step(torch.from_numpy(rows), told)
        grads = told.float().numpy()
        for row in set(rows.tolist()) - {0}:
            by_hand(state, row, grads[rows == row].astype(np.float64).sum(axis=0), 0.01)
            seen.add(row)
    found = moved.weight_RD.numpy()
    np.testing.assert_allclose(found, state["weight"], rtol=1e-4, atol=2e-5)
    still = [row for row in range(30) if row == 0 or row not in seen]
    np.testing.assert_array_equal(found[still], first[still])
    assert not any(tensor[still].any() for tensor in moved.state().values())


@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, LazyAdam])
@pytest.mark.parametrize("row", [-1, 12])
def test_a_row_outside_of_the_table_is_refused(optimizer: type[RowOptimizer], row: int) -> None:
    moved = optimizer(torch.ones(12, 4), rate=0.1)
    with pytest.raises(IndexError, match="none of the table's"):
        moved.step(torch.tensor([3, row]), torch.ones(2, 4))
    assert torch.equal(moved.weight_RD, torch.ones(12, 4))


@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, LazyAdam])
def test_with_and_without_kernels_rows_move_alike(
    optimizer: type[RowOptimizer], use_kernels: Callable[[bool], None], generator: torch.Generator
) -> None:
    found = []
    rows = torch.randint(0, 50, (400,), generator=generator)
    grads = torch.randn(3, 400, 16, generator=generator)
    for yes in (True, False):
        use_kernels(yes)
        moved = optimizer(torch.ones(50, 16), rate=0.1)
        for grad in grads:
            moved.step(rows, grad)
        found.append(moved)
    torch.testing.assert_close(found[0].weight_RD, found[1].weight_RD, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0].state(), found[1].state(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, LazyAdam])
@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (2, 3)])
def test_gradients_of_another_shape_are_refused(
    optimizer: type[RowOptimizer], shape: tuple[int, int]
) -> None:
    moved = optimizer(torch.ones(12, 4), rate=0.1)
    with pytest.raises(ValueError, match="Gradients of shape"):
        moved.step(torch.tensor([3, 5]), torch.ones(shape))
    assert torch.equal(moved.weight_RD, torch.ones(12, 4))


@pytest.mark.parametrize("rows", [1 << 11, (1 << 22) + 3])
def test_rows_of_any_digit_are_sorted(rows: int, generator: torch.Generator) -> None:
    moved = RowWiseAdagrad(torch.zeros(rows, 1), rate=1.0)
    taken = torch.randint(1, rows, (3000,), generator=generator)
    moved.step(taken, torch.ones(3000, 1))
    assert torch.equal(moved.weight_RD.nonzero()[:, 0], taken.unique())
    assert torch.equal(moved.sum_R[taken].sqrt(), taken.bincount()[taken].float())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("size", [1, 16, 37, 200])
def test_what_is_not_finite_is_found_wherever_it_is(bad: float, size: int) -> None:
    plain = torch.full((size,), -3.3e38)
    for place in range(size):
        worse = plain.clone()
        worse[place] = bad
        for told in (plain, worse), (plain.bfloat16(), worse.bfloat16()):
            assert all_finite([told[0], told[1], plain[:0], told[0]]) == [True, False, True, True]


@pytest.mark.parametrize("width", [1, 16, 21])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_vectors_are_rounded_when_they_are_fetched(
    width: int, count: int, generator: torch.Generator
) -> None:
    embedding = PackedEmbedding(30, width, generator=generator)
    rows = torch.randint(0, 30, (count,), generator=generator)
    found = embedding.vectors(rows, torch.bfloat16)
    assert torch.equal(found, embedding.weight_RD[rows].bfloat16())
    assert torch.equal(embedding.vectors(rows), embedding.weight_RD[rows])
    for row in (-1, 30):
        with pytest.raises(IndexError, match=f"Row {row} is not one of the table, which has 30 rows"):
            embedding.vectors(torch.tensor([3, row]), torch.bfloat16)


@pytest.mark.parametrize(("shape", "columns"), [((5, 3), 2), ((2, 7, 40), 33), ((1, 4, 16), 16), ((3, 8), 0)])
def test_rows_of_bfloat16_are_widened(
    shape: tuple[int, ...], columns: int, generator: torch.Generator
) -> None:
    narrow = torch.randn(shape, generator=generator).bfloat16()
    found = widened(narrow, columns, torch.float32)
    assert found.dtype == torch.float32
    assert torch.equal(found, narrow[..., :columns].float())
    strided = narrow.transpose(0, 1)
    assert torch.equal(
        widened(strided, min(columns, strided.shape[-1]), torch.float32), strided[..., :columns].float()
    )
