"""Networks and mixtures that are one node of the graph: values and gradients against those written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from models.blocks import Networks, ObjectiveTowers
from models.inputs import flat
from models.mixture import mixtures
from models.relu_networks import linear_layer, relu_networks

SHAPES = [
    pytest.param(groups, per_group, layers, id=f"{groups} groups of {per_group}, {layers}")
    for groups, per_group in ((1, 1), (1, 3), (3, 1), (2, 2))
    for layers in ((4,), (4, 3), (5, 4, 3))
]


def written_out(networks: Networks, x_GBI: Tensor) -> Tensor:
    """Network by network, layer by layer."""
    outputs = []
    for s in range(networks.groups * networks.per_group):
        group, place = divmod(s, networks.per_group)
        wide = networks.weights[0].shape[2] // networks.per_group
        columns = slice(place * wide, (place + 1) * wide)
        h = torch.relu(
            x_GBI[group] @ networks.weights[0][group][:, columns] + networks.biases[0][group][:, columns]
        )
        for weight, bias in zip(list(networks.weights)[1:], list(networks.biases)[1:], strict=True):
            h = torch.relu(h @ weight[s] + bias[s])
        outputs.append(h)
    return torch.stack(outputs)


def drawn(groups: int, per_group: int, layers: tuple[int, ...], generator: torch.Generator) -> Networks:
    networks = Networks(6, layers, groups=groups, per_group=per_group, generator=generator).double()
    for bias in networks.biases:  # so that no unit is at the kink, and biases matter
        bias.data.uniform_(-0.5, 0.5, generator=generator)
    return networks


@pytest.mark.parametrize(("groups", "per_group", "layers"), SHAPES)
def test_networks_and_their_gradients_are_those_written_out(
    groups: int, per_group: int, layers: tuple[int, ...], generator: torch.Generator
) -> None:
    networks = drawn(groups, per_group, layers, generator)
    x_GBI = torch.randn(groups, 7, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    into = torch.randn(groups * per_group, 7, layers[-1], dtype=torch.float64, generator=generator)
    found, expected = networks(x_GBI), written_out(networks, x_GBI)
    torch.testing.assert_close(found, expected)
    leaves = [x_GBI, *networks.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((found * into).sum(), leaves),
        torch.autograd.grad((expected * into).sum(), leaves, retain_graph=True),
    )
    with torch.no_grad():  # the way in which rows are scored
        torch.testing.assert_close(networks(x_GBI), expected)
    # the way of an accelerator
    at_once = torch.stack(networks._layer_by_layer(x_GBI, []))
    torch.testing.assert_close(at_once, expected)
    torch.testing.assert_close(
        torch.autograd.grad((at_once * into).sum(), leaves),
        torch.autograd.grad((expected * into).sum(), leaves),
    )


@pytest.mark.parametrize("linear", [False, True])
def test_gradients_of_networks_are_those_of_finite_differences(
    linear: bool, generator: torch.Generator
) -> None:
    networks = drawn(2, 2, (5, 3), generator)
    x_GBI = torch.randn(2, 4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    depth = len(networks.weights)

    def computed(x_GBI: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        inputs = x_GBI.unbind()
        return relu_networks(parameters[:depth], parameters[depth:], inputs, networks=4, linear=linear)

    assert gradcheck(computed, (x_GBI, *networks.weights, *networks.biases))


@pytest.mark.parametrize("layers", [(4,), (5, 4)])
@pytest.mark.parametrize("same_input", [False, True])
def test_towers_end_in_a_linear_layer(
    layers: tuple[int, ...], same_input: bool, generator: torch.Generator
) -> None:
    towers = ObjectiveTowers(6, 3, layers, same_input=same_input, generator=generator).double()
    x_GBI = torch.randn(1 if same_input else 3, 5, 6, dtype=torch.float64, generator=generator)
    hidden_KBO = written_out(towers.hidden, x_GBI)
    expected = (hidden_KBO @ towers.weight_KO1 + towers.bias_K11).squeeze(2).T
    torch.testing.assert_close(towers(x_GBI), expected)
    with torch.no_grad():
        torch.testing.assert_close(towers(x_GBI), expected)


def test_narrow_products_are_those_of_rounded_numbers(generator: torch.Generator) -> None:
    networks = Networks(6, (5, 4), per_group=2, generator=generator)
    x_GBI = torch.randn(1, 9, 6, generator=generator, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = networks(x_GBI)
    narrow.float().square().sum().backward()
    assert narrow.dtype == torch.bfloat16
    found = [x_GBI.grad, *(parameter.grad for parameter in networks.parameters())]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in found)
    wide = networks(x_GBI)
    torch.testing.assert_close(narrow.float(), wide, rtol=0.02, atol=0.02)
    expected = torch.autograd.grad(wide.square().sum(), [x_GBI, *networks.parameters()])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.1)


def test_an_input_that_needs_no_gradient_gets_none(generator: torch.Generator) -> None:
    networks = drawn(1, 2, (5, 3), generator)
    networks(torch.randn(1, 4, 6, dtype=torch.float64, generator=generator)).sum().backward()
    assert all(parameter.grad is not None for parameter in networks.parameters())


SELECTED = [[(0, 1, 2)], [(0, 1, 2), (0, 1, 2)], [(0, 2), (1, 2), (0, 1, 2)], [(2,), (0, 1)]]


@pytest.mark.parametrize("selected", SELECTED, ids=str)
def test_mixtures_are_weighted_sums(selected: list[tuple[int, ...]], generator: torch.Generator) -> None:
    experts = [
        torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(3)
    ]
    weights = [
        torch.rand(len(places), 4, dtype=torch.float64, generator=generator, requires_grad=True)
        for places in selected
    ]
    expected = torch.stack(
        [
            torch.stack(
                [weight_B.unsqueeze(1) * experts[e] for weight_B, e in zip(w_EB, places, strict=True)]
            ).sum(0)
            for w_EB, places in zip(weights, selected, strict=True)
        ]
    )
    torch.testing.assert_close(torch.stack(mixtures(weights, experts, selected)), expected)

    def mixed(*told: Tensor) -> tuple[Tensor, ...]:
        return mixtures(told[: len(weights)], told[len(weights) :], selected)

    assert gradcheck(mixed, (*weights, *experts))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "read", "units"), [(5, 4, 3), (1, 7, 1), (33, 1, 64), (0, 4, 3)])
def test_a_layer_is_a_product_a_bias_and_relu(
    rows: int, read: int, units: int, dtype: torch.dtype, relu: bool, generator: torch.Generator
) -> None:
    x, wide = (torch.randn(n, m, generator=generator) for n, m in ((rows, read), (read, 2 * units)))
    bias = torch.randn(units, generator=generator)
    x, weight, bias = x.to(dtype), wide[:, units:].to(dtype), bias.to(dtype)
    expected = x.double() @ weight.double() + bias.double()
    found = linear_layer(x, weight, bias, relu=relu)
    assert found.dtype == dtype
    torch.testing.assert_close(found, (expected.relu() if relu else expected).to(dtype), rtol=0.01, atol=0.01)


def test_vectors_and_quantities_side_by_side(generator: torch.Generator) -> None:
    vectors = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    dense = torch.randn(4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    torch.testing.assert_close(
        flat(vectors, dense), torch.cat((vectors.flatten(2), dense.expand(2, -1, -1)), dim=2)
    )
    assert gradcheck(flat, (vectors, dense))
    narrow = flat(vectors, dense, torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    narrow.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.dtype == torch.float64
