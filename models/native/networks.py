"""`models.relu_networks` by the compiled kernels.

Shapes: as there; T rows of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.native.library import call, multiply, multiply_wide

_NARROW = torch.bfloat16


def served(dtype: torch.dtype, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> bool:
    """Whether the kernels take these networks: products in bfloat16 of weights in float32."""
    return multiply(dtype, inputs[0].device) and all(one.dtype == torch.float32 for one in parameters)


def scored(dtype: torch.dtype, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> bool:
    """Whether the kernels take these networks if no graph is made: products in float32 may do then, too."""
    wide = multiply_wide(dtype, inputs[0].device) and all(one.dtype == dtype for one in parameters)
    return wide or served(dtype, inputs, parameters)


def outputs_of(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    networks: int,
    linear: bool,
    all_layers: bool = False,
    dtype: torch.dtype = _NARROW,
) -> list[Tensor]:
    """What the last layer hands on, or every layer, each of shape (S, B, O); no graph is made.

    The arguments are those of ``relu_networks``, and the dtype of products and results; all layers are there
    for those in bfloat16 alone.

    Raises:
        ValueError: shapes that do not belong together, of which a kernel would read what is not there.
    """
    inputs = [x_BI.to(dtype).contiguous() for x_BI in inputs]
    weights, biases = [one.contiguous() for one in weights], [one.contiguous() for one in biases]
    rows, widths = len(inputs[0]), _widths(networks, inputs, weights)
    _check(networks, inputs, weights, biases, widths)
    shape = rows, len(inputs), networks // len(inputs), len(weights), int(linear), widths
    if dtype == torch.float32:
        output_SBO = inputs[0].new_empty(networks, rows, widths[-1])
        call("networks_forward", *shape, weights, biases, inputs, output_SBO, wide=True)
        return [output_SBO]
    kept = [all_layers] * (len(weights) - 1) + [True]
    outputs = [
        inputs[0].new_empty(networks, rows, width) if keep else None
        for keep, width in zip(kept, widths[1:], strict=True)
    ]
    call("networks_forward", *shape, weights, biases, inputs, outputs)
    return [one for one in outputs if one is not None]


def outputs_of_pairs(
    table_TI: Tensor,
    places_B2: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    linear: bool,
) -> Tensor:
    """What one network hands on for pairs, shape (B, O); its input is ReLU of the sum of two rows of a table.

    Args:
        table_TI: what the first layer makes of users and of items, T rows, in the dtype of the products.
        places_B2: places of the user and of the item of every pair, int64.
        weights: of every later layer, shape (1, I, O), at least one.
        biases: likewise, shape (1, 1, O).
        linear: leave ReLU out after the last layer.

    Raises:
        ValueError: shapes or types that do not belong together, of which a kernel would read what is not
            there.
        IndexError: a place is none of the table's.
    """
    wide = table_TI.dtype == torch.float32
    typed = (wide or table_TI.dtype == _NARROW) and places_B2.dtype == torch.int64
    if not typed or places_B2.shape[1:] != (2,):
        told = f"{places_B2.dtype} of shape {tuple(places_B2.shape)} in a table of {table_TI.dtype}"
        raise ValueError(f"Pairs by {told}, expected int64 of shape (B, 2) in one of bfloat16 or float32.")
    table_TI, places_B2 = table_TI.contiguous(), places_B2.contiguous()
    weights, biases = [one.contiguous() for one in weights], [one.contiguous() for one in biases]
    widths = _widths(1, [table_TI], weights)
    _check(1, [table_TI], weights, biases, widths)
    output_BO = table_TI.new_empty(len(places_B2), widths[-1])
    shape = len(places_B2), len(table_TI), len(weights), int(linear), widths
    call("pairs_forward", *shape, table_TI, places_B2, weights, biases, output_BO, wide=wide)
    return output_BO


class NativeNetworks(torch.autograd.Function):
    """``models.relu_networks.ReluNetworks`` by the compiled kernels."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        linear: bool,
        groups: int,
        networks: int,
        *told: Tensor,
    ) -> tuple[Tensor, ...]:
        """Outputs of all networks; the arguments are those of ``ReluNetworks`` behind its dtype."""
        inputs = [x_BI.to(_NARROW).contiguous() for x_BI in told[:groups]]
        parameters = [one.contiguous() for one in told[groups:]]
        depth = len(parameters) // 2
        outputs = outputs_of(
            *(inputs, parameters[:depth], parameters[depth:]),
            networks=networks,
            linear=linear,
            all_layers=True,
        )
        ctx.save_for_backward(*inputs, *parameters, *outputs)
        ctx.linear, ctx.groups, ctx.networks, ctx.depth = linear, groups, networks, depth
        ctx.dtype = told[0].dtype
        return outputs[-1].unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the inputs, of every weight and of every bias."""
        saved, groups, depth = ctx.saved_tensors, ctx.groups, ctx.depth
        inputs, parameters, outputs = saved[:groups], saved[groups:-depth], saved[-depth:]
        weights, biases = parameters[:depth], parameters[depth:]
        rows = len(inputs[0])
        own = [torch.empty_like(one) if rows else torch.zeros_like(one) for one in parameters]
        asked = [
            torch.empty_like(x_BI) if needed else None
            for x_BI, needed in zip(inputs, ctx.needs_input_grad[3:], strict=False)
        ]
        call(
            "networks_backward",
            *(rows, groups, ctx.networks // groups, depth, int(ctx.linear)),
            *(_widths(ctx.networks, inputs, weights), weights, biases, inputs, outputs),
            *([grad.contiguous() for grad in grads], own[:depth], own[depth:], asked),
        )
        of_inputs = (None if one is None else one.to(ctx.dtype) for one in asked)
        return None, None, None, *of_inputs, *own


def _widths(networks: int, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> list[int]:
    """Of the input and of what every layer hands on."""
    first, *later = (weight.shape[2] for weight in weights)
    return [inputs[0].shape[1], first * len(inputs) // networks, *later]


def _check(
    networks: int,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    widths: Sequence[int],
) -> None:
    groups = len(inputs)
    expected = [inputs[0].shape] * groups
    for layer, (width, out) in enumerate(pairwise(widths)):
        count, whole = (networks, out) if layer else (groups, out * networks // groups)
        expected += [torch.Size((count, width, whole)), torch.Size((count, 1, whole))]
    layers = (one for layer in zip(weights, biases, strict=True) for one in layer)
    found = [one.shape for one in (*inputs, *layers)]
    if found != expected:
        raise ValueError(f"Networks of shapes {[*map(tuple, found)]}, expected {[*map(tuple, expected)]}.")
