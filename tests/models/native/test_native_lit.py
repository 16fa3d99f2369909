"""Products that leave out what is zero in all rows of a tile, and pairs of users and items by the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.batch import Batch
from models.line import Line
from models.native import library
from models.native.networks import outputs_of, outputs_of_pairs
from models.ple import PLE
from models.split import Split
from tests.models.native.test_native_networks import ROWS, WIDTH, Case, _examples, narrow, whole

pytestmark = pytest.mark.usefixtures("use_kernels", "use_wide")
#: What the dtype of products does to what a layer hands on.
ROUNDED = {torch.bfloat16: narrow, torch.float32: Tensor.double}
DTYPES = pytest.mark.parametrize("dtype", ROUNDED)


def network(
    widths: Sequence[int], dark: slice | Tensor, draw: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of a network whose hidden units at these places are zero in every row."""
    weights = [torch.randn(1, *two, generator=draw) / two[0] ** 0.5 for two in pairwise(widths)]
    biases = [torch.randn(1, 1, width, generator=draw) for width in widths[1:]]
    for bias in biases[:-1]:
        bias[..., dark] = -1e6
    return weights, biases


@DTYPES
def test_weights_of_units_that_nobody_lights_are_not_even_read(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(300, 40, generator=draw)
    weights, biases = network((40, 64, 48, 20), slice(0, None, 3), draw)
    (expected,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=dtype)
    for weight in weights[1:]:
        weight[:, ::3] = float("nan")
    (found,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=dtype)
    assert torch.equal(found, expected)
    weights[1][:, 1] = float("nan")  # of one that somebody lights
    (found,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=dtype)
    assert found.isnan().any()


@DTYPES
@pytest.mark.parametrize("some", [1, 5, 6, 7, 100])
def test_a_row_is_the_same_whatever_stands_beside_it(some: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(some)
    x = torch.randn(300, 41, generator=draw).relu()
    x[:, torch.rand(41, generator=draw) < 0.5] = 0
    weights, biases = network((41, 130, 65, 20), torch.rand(65, generator=draw).argsort()[:30], draw)
    (together,) = outputs_of([x], weights, biases, networks=1, linear=True, dtype=dtype)
    alone = [
        outputs_of([x[start : start + some]], weights, biases, networks=1, linear=True, dtype=dtype)[0][0]
        for start in range(0, 300, some)
    ]
    if (
        dtype == torch.bfloat16 and library.NARROW.able()
    ):  # which of two products it rounds first, a processor does not promise
        torch.testing.assert_close(torch.cat(alone), together[0], rtol=0.02, atol=0.02)
    else:
        assert torch.equal(torch.cat(alone), together[0])


@given(
    st.integers(0, 2**31),
    ROWS,
    WIDTH,
    st.lists(WIDTH, min_size=1, max_size=3),
    st.sampled_from((0, 0.3, 0.7, 1)),
    st.booleans(),
    st.sampled_from(list(ROUNDED)),
)
@_examples
def test_pairs_are_those_written_out(
    seed: int, rows: int, width: int, layers: list[int], dark: float, linear: bool, dtype: torch.dtype
) -> None:
    case = Case(seed, 1, width, layers, 1, 1, dark)
    draw = torch.Generator().manual_seed(seed)
    table = (3 * whole(draw, 7, width)).to(dtype)
    table[:, torch.rand(width, generator=draw) < dark] = -1
    places = torch.randint(0, 7, (rows, 2), generator=draw)
    told = [[one.detach() for one in parameters] for parameters in (case.weights, case.biases)]
    found = outputs_of_pairs(table, places, *told, linear=linear)
    user, item = places.unbind(1)
    case.inputs = [(table[user] + table[item]).relu()]
    case.grads = [torch.zeros(rows, layers[-1])]
    expected = case.written_out(0, linear, ROUNDED[dtype])[0]
    # sums of whole numbers are exact in any order, unless a deep network in float32 passes 2^24
    rtol = 1e-6 if dtype == torch.float32 else 0
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=0)


@DTYPES
@pytest.mark.parametrize("place", [-1, 7])
def test_a_place_outside_of_the_table_is_refused(place: int, dtype: torch.dtype) -> None:
    weights, biases = network((5, 4), slice(0), torch.Generator())
    places = torch.tensor([[0, 6], [place, 0]])
    with pytest.raises(IndexError, match="none of the table's"):
        outputs_of_pairs(torch.zeros(7, 5, dtype=dtype), places, weights, biases, linear=True)


def test_pairs_of_other_shapes_and_types_are_refused() -> None:
    weights, biases = network((5, 4), slice(0), torch.Generator())
    table, places = torch.zeros(7, 5).bfloat16(), torch.zeros(3, 2, dtype=torch.int64)
    for one, two in ((table.double(), places), (table, places.int()), (table, places[:, :1])):
        with pytest.raises(ValueError, match="expected int64 of shape"):
            outputs_of_pairs(one, two, weights, biases, linear=True)
    with pytest.raises(ValueError, match="Networks of shapes"):
        outputs_of_pairs(table[:, :4], places, weights, biases, linear=True)


def test_pairs_that_are_summed_on_the_way_score_alike_to_the_bit(
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
    score_pairs: Callable[[Line], dict[str, np.ndarray]],
) -> None:
    line = make_line(architecture=partial(PLE, levels=((16, 8), (8,)), layers=(6,)), products=torch.bfloat16)
    for seed in range(3):
        line.learn(make_batch(64, seed))

    def bags(places_B2: Tensor, table_TO: Tensor, mode: str) -> Tensor:
        """Torch's own round a half away from zero instead of to the even neighbour."""
        assert mode == "sum"
        return table_TO[places_B2].float().sum(1).to(table_TO.dtype)

    summed = score_pairs(line)
    monkeypatch.setattr(Split, "addends", lambda *_: None)
    monkeypatch.setattr(functional, "embedding_bag", bags)
    for name, score in score_pairs(line).items():
        np.testing.assert_array_equal(summed[name], score, err_msg=name)
