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
from models.native.networks import outputs_of, outputs_of_pairs
from models.pairs import Pairs, Share, Shares
from models.relu_networks import relu_networks
from tests.models.native.test_native_lit import network
from tests.models.native.test_native_networks import CASES, ROWS, WIDTH, Case, _examples, whole

pytestmark = pytest.mark.usefixtures("use_wide")
WIDE = torch.float32


def written_out(case: Case, n: int, read: Tensor, linear: bool) -> Tensor:
    """What network n makes of its input, in float64."""
    read = read.double()
    for layer, (weight, bias) in enumerate(zip(case.weights, case.biases, strict=True)):
        read = read @ case.of(n, weight, layer).double() + case.of(n, bias, layer).double()
        if not (linear and layer == len(case.weights) - 1):
            read = read.relu()
    return read.detach()


@given(CASES, st.booleans())
@_examples
def test_networks_are_those_written_out(case: Case, linear: bool) -> None:
    inputs = [x.detach().float() for x in case.inputs]
    with torch.no_grad():
        found = relu_networks(case.weights, case.biases, inputs, networks=case.networks, linear=linear)
    for n, output in enumerate(found):
        expected = written_out(case, n, inputs[n // case.per_group], linear)
        # sums of whole numbers are exact in any order, unless a deep network passes 2^24
        torch.testing.assert_close(output.double(), expected, rtol=1e-6, atol=0)


@given(
    st.integers(0, 2**31),
    ROWS,
    WIDTH,
    st.lists(WIDTH, min_size=1, max_size=3),
    st.sampled_from((0, 0.3, 0.7, 1)),
    st.booleans(),
)
@_examples
def test_pairs_are_those_written_out(
    seed: int, rows: int, width: int, layers: list[int], dark: float, linear: bool
) -> None:
    case = Case(seed, 1, width, layers, 1, 1, dark)
    draw = torch.Generator().manual_seed(seed)
    table = 3 * whole(draw, 7, width)
    table[:, torch.rand(width, generator=draw) < dark] = -1
    places = torch.randint(0, 7, (rows, 2), generator=draw)
    told = [[one.detach() for one in parameters] for parameters in (case.weights, case.biases)]
    found = outputs_of_pairs(table, places, *told, linear=linear)
    user, item = places.unbind(1)
    expected = written_out(case, 0, (table[user] + table[item]).relu(), linear)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("some", [1, 5, 6, 7, 100])
def test_a_row_is_the_same_to_the_bit_whatever_stands_beside_it(some: int) -> None:
    draw = torch.Generator().manual_seed(some)
    x = torch.randn(300, 41, generator=draw).relu()
    x[:, torch.rand(41, generator=draw) < 0.5] = 0
    weights, biases = network((41, 130, 65, 20), torch.rand(65, generator=draw).argsort()[:30], draw)
    (together,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=WIDE)
    alone = [
        outputs_of([x[start : start + some]], weights, biases, networks=1, linear=True, dtype=WIDE)[0][0]
        for start in range(0, 300, some)
    ]
    assert torch.equal(torch.cat(alone), together[0])


def test_weights_of_units_that_nobody_lights_are_not_even_read() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(300, 40, generator=draw)
    weights, biases = network((40, 64, 48, 20), slice(0, None, 3), draw)
    (expected,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=WIDE)
    for weight in weights[1:]:
        weight[:, ::3] = float("nan")
    (found,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=WIDE)
    assert torch.equal(found, expected)


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


@pytest.mark.parametrize("place", [-1, 7])
def test_a_place_outside_of_the_table_is_refused(place: int) -> None:
    weights, biases = network((5, 4), slice(0), torch.Generator())
    places = torch.tensor([[0, 6], [place, 0]])
    with pytest.raises(IndexError, match="none of the table's"):
        outputs_of_pairs(torch.zeros(7, 5), places, weights, biases, linear=True)


def test_every_architecture_scores_as_without_them(
    architecture_class: type[Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    use_wide: Callable[[bool], None],
) -> None:
    line = make_line(architecture=architecture_class)
    batches = [make_batch(64, seed) for seed in range(3)]
    learned = [line.learn(batch) for batch in batches]
    sides = Shares(Share((0,), (0,), (0,)), Share((1, 2), (1,), (1,)))
    rng = np.random.default_rng(0)

    def inputs(count: int, fields: int, bag: int) -> dict[str, np.ndarray]:
        return {
            "rows": rng.integers(1, 50, (count, fields)),
            "bag_rows": rng.integers(0, 50, (count, bag)),
            "dense": rng.standard_normal((count, 1)).astype(np.float32),
        }

    users, items = inputs(5, 1, 4), inputs(70, 2, 2)
    user_B, item_B = rng.integers(0, 5, 333), rng.integers(0, 70, 333)

    def scores() -> list[np.ndarray]:
        pairs = Pairs(line, sides, items)
        both = pairs.grid(users), pairs.chosen(users, user_B, item_B)
        return [
            line.predict(make_batch(300, 9)).joint_BJ.numpy(),
            *(one for told in both for one in told.values()),
        ]

    by_kernels = scores()
    use_wide(False)
    for one, other in zip(by_kernels, scores(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    again = make_line(architecture=architecture_class)  # steps are torch's, with them or without
    assert torch.equal(
        torch.stack(learned), torch.stack([again.learn(make_batch(64, seed)) for seed in range(3)])
    )
