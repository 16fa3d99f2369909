"""Networks and pairs by the kernels in float32, against their equations and beside lines by torch alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.architecture import Architecture
from models.batch import Batch
from models.line import Line
from models.relu_networks import relu_networks
from tests.models.native.test_native_networks import CASES, Case, _examples

pytestmark = pytest.mark.usefixtures("use_wide")


@given(CASES, st.booleans())
@_examples
def test_networks_are_those_written_out(case: Case, linear: bool) -> None:
    inputs = [x.detach().float() for x in case.inputs]
    with torch.no_grad():
        found = relu_networks(case.weights, case.biases, inputs, networks=case.networks, linear=linear)
    for n, output in enumerate(found):
        expected = case.written_out(n, linear, Tensor.double)[0]
        # sums of whole numbers are exact in any order, unless a deep network passes 2^24
        torch.testing.assert_close(output.double(), expected.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen_behind_the_networks(bad: float) -> None:
    case = Case(3, 300, 33, (20, 6), 1, 1)
    x = case.inputs[0].detach().float()
    x[270, 32] = bad
    with torch.no_grad():
        (found,) = relu_networks(case.weights, case.biases, [x], networks=1, linear=True)
    assert not found[270].isfinite().all()
    assert found[:270].isfinite().all()
    assert found[271:].isfinite().all()


def test_every_architecture_scores_as_without_them(
    architecture_class: type[Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    use_wide: Callable[[bool], None],
    score_pairs: Callable[[Line], dict[str, np.ndarray]],
) -> None:
    line = make_line(architecture=architecture_class)
    batches = [make_batch(64, seed) for seed in range(3)]
    learned = [line.learn(batch) for batch in batches]

    def scores() -> dict[str, np.ndarray]:
        return score_pairs(line) | {"joined": line.predict(make_batch(300, 9)).joint_BJ.numpy()}

    by_kernels = scores()
    use_wide(False)
    for name, score in scores().items():
        np.testing.assert_allclose(by_kernels[name], score, rtol=0, atol=1e-5, err_msg=name)
    again = make_line(architecture=architecture_class)  # steps are torch's, with them or without
    assert all(torch.equal(again.learn(b), losses) for b, losses in zip(batches, learned, strict=True))
