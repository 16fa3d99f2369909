"""Networks, gates and mixtures by the kernels, against their equations with the rounding written out.

Numbers are small and whole, so that sums of float32 are exact in any order and nothing may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.gates import Gate, weigh
from models.mixture import mixtures
from models.native.networks import NativeNetworks, outputs_of
from models.relu_networks import relu_networks

pytestmark = pytest.mark.usefixtures("use_kernels")
#: A fixture that only says who computes stays the same for all examples.
_examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

#: A block of rows has 258; widths lie around registers of 16 and panels of 64.
ROWS = st.sampled_from((1, 2, 3, 7, 64, 257, 258, 259, 300, 517))
WIDTH = st.one_of(st.integers(1, 20), st.sampled_from((31, 32, 33, 63, 64, 65, 80, 97, 130)))


def whole(generator: torch.Generator, *shape: int) -> Tensor:
    """-1 and 1, and twice as many zeros."""
    return torch.randint(-1, 3, shape, generator=generator).remainder(3).sub(1).float() * (
        torch.rand(shape, generator=generator) < 0.5
    )


def narrow(x: Tensor) -> Tensor:
    return x.float().bfloat16().double()


class Case:
    """Networks, what they read, and what flows back to their outputs.

    A share of the inputs and of the units is ``dark``: zero in all rows.
    """

    def __init__(
        self,
        seed: int,
        rows: int,
        width: int,
        layers: Sequence[int],
        groups: int,
        per_group: int,
        dark: float = 0,
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.networks, self.groups, self.per_group = groups * per_group, groups, per_group
        first, *later = layers
        shapes = [(groups, width, per_group * first)]
        shapes += [(self.networks, *two) for two in zip(layers, later, strict=False)]
        self.weights = [whole(draw, *shape).requires_grad_() for shape in shapes]
        self.biases = [whole(draw, shape[0], 1, shape[2]).requires_grad_() for shape in shapes]
        self.inputs = [whole(draw, rows, width).bfloat16().requires_grad_() for _ in range(groups)]
        self.grads = [whole(draw, rows, layers[-1]).bfloat16() for _ in range(self.networks)]
        for told, value in (*((x, 0) for x in self.inputs), *((bias, -100_000) for bias in self.biases)):
            told.data[..., torch.rand(told.shape[-1], generator=draw) < dark] = value

    def of(self, network: int, told: Tensor, layer: int) -> Tensor:
        """A weight or bias of a network."""
        if layer:
            return told[network]
        group, place = divmod(network, self.per_group)
        return told[group].unflatten(1, (self.per_group, -1))[:, place]

    def written_out(
        self, network: int, linear: bool, rounded: Callable[[Tensor], Tensor] = narrow
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """Output and gradients of weights, biases and input of one network."""
        read = [self.inputs[network // self.per_group].double()]
        weights = [rounded(self.of(network, told, layer)) for layer, told in enumerate(self.weights)]
        for layer, (weight, told) in enumerate(zip(weights, self.biases, strict=True)):
            found = read[-1] @ weight + self.of(network, told, layer).double()
            last = linear and layer == len(weights) - 1
            read.append(rounded(found if last else found.relu()))
        grad = self.grads[network].double() * (1 if linear else read[-1] > 0)
        of_weights, of_biases = [], []
        for layer in reversed(range(len(weights))):
            of_weights.insert(0, read[layer].T @ grad)
            of_biases.insert(0, grad.sum(0, keepdim=True))
            grad = grad @ weights[layer].T
            if layer:
                grad = rounded(grad) * (read[layer] > 0)
        return read[-1], of_weights, of_biases, grad


CASES = st.builds(
    Case,
    st.integers(0, 2**31),
    ROWS,
    WIDTH,
    st.lists(WIDTH, min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from((0, 0.3, 0.7, 1)),
)


@given(CASES, st.booleans())
@_examples
def test_networks_and_their_gradients_are_those_written_out(case: Case, linear: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relu_networks(case.weights, case.biases, case.inputs, networks=case.networks, linear=linear)
        with torch.no_grad():
            scored = relu_networks(
                case.weights, case.biases, case.inputs, networks=case.networks, linear=linear
            )
    assert type(found[0].grad_fn).__name__ == "UnbindBackward0" or NativeNetworks.__name__ in str(
        found[0].grad_fn
    )
    leaves = [*case.inputs, *case.weights, *case.biases]
    grads = torch.autograd.grad(found, leaves, case.grads)
    of_inputs, of_parameters = grads[: case.groups], grads[case.groups :]
    of_weights, of_biases = of_parameters[: len(case.weights)], of_parameters[len(case.weights) :]
    expected_inputs = [torch.zeros_like(x, dtype=torch.float64) for x in case.inputs]
    for network, (output, alone) in enumerate(zip(found, scored, strict=True)):
        expected, weights, biases, of_input = case.written_out(network, linear)
        assert torch.equal(output.double(), expected)
        assert torch.equal(alone, output)
        expected_inputs[network // case.per_group] += of_input
        for layer in range(len(weights)):
            for told, written in ((of_weights, weights), (of_biases, biases)):
                own = case.of(network, told[layer], layer).double()
                # sums may pass 2^24 where a network is deep, so that float32 rounds them
                torch.testing.assert_close(own, written[layer], rtol=1e-5, atol=0)
    for of_input, expected in zip(of_inputs, expected_inputs, strict=True):
        assert torch.equal(of_input.double(), narrow(expected))


def test_kept_layers_are_those_handed_on() -> None:
    case = Case(1, 300, 20, (17, 9, 4), 2, 1)
    layers = outputs_of(case.inputs, case.weights, case.biases, networks=2, linear=False, all_layers=True)
    assert [tuple(one.shape) for one in layers] == [(2, 300, 17), (2, 300, 9), (2, 300, 4)]
    (last,) = outputs_of(case.inputs, case.weights, case.biases, networks=2, linear=False)
    assert torch.equal(last, layers[-1])
    read = layers[0][1].double() @ narrow(case.weights[1][1]) + case.biases[1][1].double()
    assert torch.equal(layers[1][1].double(), narrow(read.relu()))


def test_no_row_has_no_gradient() -> None:
    case = Case(1, 0, 5, (3, 2), 1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relu_networks(case.weights, case.biases, case.inputs, networks=2)
    grads = torch.autograd.grad(found, [*case.weights, *case.biases], case.grads)
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen_behind_the_networks(bad: float) -> None:
    case = Case(3, 300, 33, (20, 6), 1, 1)
    case.inputs[0].data[270, 32] = bad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = relu_networks(case.weights, case.biases, case.inputs, networks=1, linear=True)
    assert not found[270].isfinite().all()
    assert found[:270].isfinite().all()
    assert found[271:].isfinite().all()


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    case = Case(1, 7, 5, (4, 3), 2, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relu_networks(
            case.weights, case.biases, [case.inputs[0].detach(), case.inputs[1]], networks=2
        )
    torch.autograd.backward(found, case.grads)
    assert case.inputs[0].grad is None
    assert case.inputs[1].grad is not None
    assert all(weight.grad is not None for weight in case.weights)


SELECTED = [
    [(0, 1, 2)],
    [(0, 2), (1, 2), (0, 1, 2)],
    [(2,), (0, 1)],  # one that nobody else selects
    [(0,)],  # two that nobody selects
    [(0, 1, 2)] * 21,  # more gates than one pass takes care of
    [tuple(range(20)), (3, 19)],
]


@pytest.mark.parametrize("selected", SELECTED, ids=lambda told: f"{len(told)} gates, {len(told[0])} experts")
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (65, 31), (3, 32), (130, 33), (64, 128)])
def test_mixtures_and_their_gradients_are_those_written_out(
    rows: int, width: int, selected: list[tuple[int, ...]], use_kernels: Callable[[bool], None]
) -> None:
    del use_kernels
    draw = torch.Generator().manual_seed(rows)
    count = max(3, max(max(places) for places in selected) + 1)
    experts = [whole(draw, rows, width).bfloat16().requires_grad_() for _ in range(count)]
    weights = [whole(draw, len(places), rows).requires_grad_() for places in selected]
    grads = [whole(draw, rows, width).bfloat16() for _ in selected]
    wide = [expert.detach().double().requires_grad_() for expert in experts]
    heavy = [weight.detach().double().requires_grad_() for weight in weights]
    expected = [
        sum(weight_B.unsqueeze(1) * wide[e] for weight_B, e in zip(weight_EB, places, strict=True))
        for weight_EB, places in zip(heavy, selected, strict=True)
    ]
    found = mixtures(weights, experts, selected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.double(), other)
    told = torch.autograd.grad(found, [*weights, *experts], grads, allow_unused=True, materialize_grads=True)
    written = torch.autograd.grad(
        expected,
        [*heavy, *wide],
        [grad.double() for grad in grads],
        allow_unused=True,
        materialize_grads=True,
    )
    for one, other in zip(told, written, strict=True):
        assert torch.equal(one.double(), other)


@given(
    seed=st.integers(0, 2**31),
    rows=ROWS,
    width=WIDTH,
    sizes=st.lists(st.one_of(st.integers(1, 9), st.just(17)), min_size=1, max_size=4),
)
@_examples
def test_gates_and_their_gradients_are_those_written_out(
    seed: int, rows: int, width: int, sizes: list[int]
) -> None:
    draw = torch.Generator().manual_seed(seed)
    gates = [Gate(width, size) for size in sizes]
    for gate in gates:
        gate.weight_EI.data = whole(draw, *gate.weight_EI.shape)
    x = whole(draw, rows, width).bfloat16().requires_grad_()
    grads = [torch.randn(size, rows, generator=draw) for size in sizes]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = weigh(gates, x)
    told = torch.autograd.grad(found, [x, *(gate.weight_EI for gate in gates)], grads)
    expected_x = torch.zeros(rows, width, dtype=torch.float64)
    for gate, shares, grad, of_weight in zip(gates, found, grads, told[1:], strict=True):
        weight = gate.weight_EI.detach().double()
        expected = (weight @ x.detach().double().T).softmax(0)
        torch.testing.assert_close(shares.double(), expected, rtol=1e-5, atol=1e-6)
        of_logits = expected * (grad.double() - (expected * grad.double()).sum(0))
        written = of_logits @ x.detach().double()
        # gradients of logits are rounded to 8 bits
        torch.testing.assert_close(of_weight.double(), written, rtol=0.01, atol=0.01 * rows**0.5)
        expected_x += of_logits.T @ weight
    torch.testing.assert_close(told[0].double(), expected_x, rtol=0.01, atol=0.03 * sum(sizes) ** 0.5)


@pytest.mark.parametrize("wrong", ["input", "second input", "weight", "later weight", "bias"])
def test_shapes_that_do_not_belong_together_are_refused(wrong: str) -> None:
    case = Case(1, 7, 5, (4, 3), 2, 1)
    told = {
        "input": (case.inputs, 0, torch.zeros(7, 6)),
        "second input": (case.inputs, 1, torch.zeros(6, 5)),
        "weight": (case.weights, 0, torch.zeros(2, 6, 4)),
        "later weight": (case.weights, 1, torch.zeros(2, 5, 3)),
        "bias": (case.biases, 1, torch.zeros(2, 1, 2)),
    }
    tensors, place, other = told[wrong]
    tensors[place] = other.to(tensors[place].dtype)
    with pytest.raises(ValueError, match="Networks of shapes"), torch.autocast("cpu", dtype=torch.bfloat16):
        relu_networks(case.weights, case.biases, case.inputs, networks=2)


def test_gates_and_mixtures_of_other_shapes_are_refused() -> None:
    x = torch.zeros(7, 5).bfloat16()
    with pytest.raises(ValueError, match="cannot read"), torch.autocast("cpu", dtype=torch.bfloat16):
        weigh([Gate(5, 2), Gate(6, 2)], x)
    for weight, other in ((torch.zeros(2, 7), x[:6]), (torch.zeros(3, 7), x), (torch.zeros(2, 6), x)):
        with pytest.raises(ValueError, match="Gates and experts of shapes"):
            mixtures([weight], [x, other], [(0, 1)])


def test_experts_of_several_types_are_mixed_by_torch() -> None:
    experts = [torch.ones(3, 2).bfloat16(), torch.full((3, 2), 2.0)]
    (found,) = mixtures([torch.full((2, 3), 0.5)], experts, [(0, 1)])
    assert torch.equal(found.float(), torch.full((3, 2), 1.5))
