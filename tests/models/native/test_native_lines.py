"""Lines that learn and score by the kernels, beside the same lines by torch alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch

from models.architecture import Architecture
from models.batch import Batch
from models.lazy_adam import LazyAdam
from models.line import Line
from models.ple import PLE
from models.row_optimizer import RowOptimizer
from models.row_wise_adagrad import RowWiseAdagrad

pytestmark = pytest.mark.usefixtures("use_kernels")


def learned(line: Line, batches: Sequence[Batch]) -> list[torch.Tensor]:
    return [line.learn(batch) for batch in batches]


def test_every_architecture_is_as_near_to_float32_with_them_as_without(
    architecture_class: type[Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    use_kernels: Callable[[bool], None],
) -> None:
    batch = make_batch(300, 0)

    def one_step(products: torch.dtype) -> dict[str, torch.Tensor]:
        line = make_line(architecture=architecture_class, products=products)
        told = {"joint": line.predict(batch).joint_BJ, "losses": line.learn(batch)}
        # not more steps: Adam turns the rounding of a gradient near zero into a step of full size
        return told | {n: p.grad for n, p in line.network.named_parameters() if p.grad is not None}

    by_kernels = one_step(torch.bfloat16)
    use_kernels(False)
    by_torch, exact = one_step(torch.bfloat16), one_step(torch.float32)
    assert by_kernels.keys() == by_torch.keys() == exact.keys()
    for name, wide in exact.items():
        assert (by_kernels[name] - wide).norm() <= 0.3 * wide.norm() + 1e-4, (
            name
        )  # a wrong place is off by more

    def off(told: dict[str, torch.Tensor]) -> float:
        """On average of all tensors: single ones are off by chance."""
        return float(
            np.mean([(told[name] - wide).norm() / (wide.norm() + 1e-6) for name, wide in exact.items()])
        )

    assert off(by_kernels) <= 1.3 * off(by_torch) + 0.005


@pytest.mark.parametrize("optimizer", [LazyAdam, RowWiseAdagrad])
def test_a_line_goes_on_without_them_from_where_it_was_with_them(
    optimizer: type[RowOptimizer],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    use_kernels: Callable[[bool], None],
) -> None:
    chosen = {"embedding_optimizer": optimizer, "products": torch.bfloat16}
    line, other = (make_line(seed=seed, **chosen) for seed in (1, 2))
    line.learn(make_batch(64, 0))
    other.restore(line.state())
    assert torch.equal(line.learn(make_batch(64, 1)), other.learn(make_batch(64, 1)))  # to the bit
    use_kernels(False)
    torch.testing.assert_close(line.learn(make_batch(64, 2)), other.learn(make_batch(64, 2)), rtol=0, atol=0)


def test_pairs_score_as_without_them(
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    use_kernels: Callable[[bool], None],
    score_pairs: Callable[[Line], dict[str, np.ndarray]],
) -> None:
    line = make_line(architecture=partial(PLE, levels=((16, 8), (8,)), layers=(6,)), products=torch.bfloat16)
    learned(line, [make_batch(64, seed) for seed in range(3)])
    by_kernels = score_pairs(line)
    use_kernels(False)
    by_torch = score_pairs(line)
    assert by_kernels.keys() == by_torch.keys()
    for name, score in by_kernels.items():
        np.testing.assert_allclose(score, by_torch[name], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("optimizer", [LazyAdam, RowWiseAdagrad])
def test_nothing_is_made_on_the_default_device(
    optimizer: type[RowOptimizer], make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    chosen = {"architecture": PLE, "embedding_optimizer": optimizer, "products": torch.bfloat16}
    plain, watched = make_line(**chosen), make_line(**chosen)
    batch = make_batch(16, 0)
    with torch.device("meta"):
        losses = watched.learn(batch)
        joint = watched.predict(batch).joint_BJ
    assert torch.equal(losses, plain.learn(batch))
    assert torch.equal(joint, plain.predict(batch).joint_BJ)
