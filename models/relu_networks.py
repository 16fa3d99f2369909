"""ReLU networks of equal shape as one node of the graph, one by one, so that no product copies what it reads.

Shapes: B rows, I input width, G groups that read the same input, N networks per group, S = G * N networks,
O output width of a layer, W = N * O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.native.networks import NativeNetworks, outputs_of, scored, served
from models.relu import masked, masked_, relu_

#: Weight (I, O) and bias (O,) of every layer of one network.
Layers: TypeAlias = list[tuple[Tensor, Tensor]]
_onednn = torch.ops.mkldnn if torch._C._has_mkldnn else None
_fused = _onednn._linear_pointwise if _onednn and _onednn._is_mkldnn_bf16_supported() else None


def relu_networks(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    inputs: Sequence[Tensor],
    *,
    networks: int,
    linear: bool = False,
) -> tuple[Tensor, ...]:
    """Outputs of the networks, each of shape (B, O); those of one group are neighbours.

    Args:
        weights: of every layer: (G, I, W) of the first, (S, I, O) of the later ones.
        biases: of every layer: (G, 1, W), then (S, 1, O).
        inputs: of every group, shape (B, I).
        networks: S.
        linear: leave ReLU out after the last layer.
    """
    dtype, parameters = working_dtype(inputs[0]), (*weights, *biases)
    if not torch.is_grad_enabled() and scored(dtype, inputs, parameters):
        (found_SBO,) = outputs_of(inputs, weights, biases, networks=networks, linear=linear, dtype=dtype)
        return found_SBO.unbind()
    if torch.is_grad_enabled() and served(dtype, inputs, parameters):
        told = linear, len(inputs), networks, *inputs, *weights, *biases
        return NativeNetworks.apply(*told)  # type: ignore[no-any-return, no-untyped-call]
    how = dtype, linear, len(inputs), networks
    if torch.is_grad_enabled():
        return ReluNetworks.apply(*how, *inputs, *weights, *biases)  # type: ignore[no-any-return, no-untyped-call]
    return tuple(outputs[-1] for _, _, outputs in _run(*how, *inputs, *weights, *biases))


def by_network(
    weights: Sequence[Tensor], biases: Sequence[Tensor], networks: int, dtype: torch.dtype
) -> list[Layers]:
    """Layers of every network, rounded; a parameter is taken apart as a whole, which is far fewer operations.

    Args:
        weights: of every layer, as ``Networks`` holds them.
        biases: likewise.
        networks: S.
        dtype: of the products.
    """
    apart = [
        _apart(parameter, networks).to(dtype, memory_format=torch.contiguous_format).flatten(0, 1).unbind()
        for parameter in (*weights, *biases)
    ]
    depth = len(weights)
    return [
        list(zip(own[:depth], (b.view(-1) for b in own[depth:]), strict=True))
        for own in zip(*apart, strict=True)
    ]


def through(layers: Layers, x_BI: Tensor, *, linear: bool) -> list[Tensor]:
    """What every layer of one network hands on, for where no graph is made.

    Args:
        layers: at least one, in the dtype of the input.
        x_BI: what the first one reads.
        linear: leave ReLU out after the last layer.
    """
    outputs = []
    for layer, (weight_IO, bias_O) in enumerate(layers, start=1):
        x_BI = linear_layer(x_BI, weight_IO, bias_O, relu=layer < len(layers) or not linear)
        outputs.append(x_BI)
    return outputs


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype that products are made in here: that of ``autocast``, else the tensor's own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def linear_layer(x_BI: Tensor, weight_IO: Tensor, bias_O: Tensor, *, relu: bool) -> Tensor:
    """A layer of one network, shape (B, O), for where no graph is made.

    Bias and ReLU are part of the product where a processor multiplies in bfloat16: on their own they would
    take as long as half of it. torch has that product for its compiler alone, hence its name; it must not be
    given a part of a wider weight, for which it takes seconds. A single unit takes it twice as long as
    ``addmm``.
    """
    narrow = x_BI.dtype == torch.bfloat16 and x_BI.device.type == "cpu"
    if _fused is not None and narrow and weight_IO.shape[1] > 1:
        weight_OI = weight_IO.contiguous().T
        return _fused(x_BI, weight_OI, bias_O, "relu" if relu else "none", [], "")  # type: ignore[no-any-return]
    found_BO = torch.addmm(bias_O, x_BI, weight_IO)
    return relu_(found_BO) if relu else found_BO


def added_layer(x_BI: Tensor, weight_IO: Tensor, bias_O: Tensor | None, other_BO: Tensor) -> Tensor:
    """``x W + b + other``, shape (B, O), for where no graph is made; may overwrite ``other``."""
    if _fused is not None and x_BI.shape[1] and x_BI.dtype == torch.bfloat16 and x_BI.device.type == "cpu":
        weight_OI = weight_IO.contiguous().T
        return _fused.binary(x_BI, other_BO, weight_OI, bias_O, "add")  # type: ignore[no-any-return]
    found_BO = other_BO.addmm_(x_BI, weight_IO)
    return found_BO if bias_O is None else found_BO.add_(bias_O)


class ReluNetworks(torch.autograd.Function):
    """The layers of ``models.blocks.Networks``, forward and backward, for a processor.

    Rows are down and every network has its tensors to itself: a product is fastest where what it multiplies
    from the left is not transposed and lies in one piece.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        dtype: torch.dtype,
        linear: bool,
        groups: int,
        networks: int,
        *told: Tensor,
    ) -> tuple[Tensor, ...]:
        """Outputs of all networks, each of shape (B, O).

        Args:
            ctx: of this call.
            dtype: of the products.
            linear: leave ReLU out after the last layer.
            groups: G.
            networks: S.
            told: G inputs, weights of the layers as ``Networks`` holds them, their biases.
        """
        saved, found = [], []
        for x_BI, weights, outputs in _run(dtype, linear, groups, networks, *told):
            saved += [*weights, x_BI, *outputs]
            found.append(outputs[-1])
        ctx.save_for_backward(*saved)
        ctx.linear, ctx.groups, ctx.dtype = linear, groups, told[0].dtype
        ctx.parameters = [(parameter.shape, parameter.dtype) for parameter in told[groups:]]
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the inputs, of every weight and of every bias."""
        saved, networks, depth = ctx.saved_tensors, len(grads), len(ctx.parameters) // 2
        inputs: list[Tensor | None] = [None] * ctx.groups
        own = [
            saved[0].new_empty(networks, rows, groups * width // networks)
            for (groups, rows, width), _ in ctx.parameters
        ]
        each = [one_SIO.unbind() for one_SIO in own]
        for s, grad in enumerate(grads):
            group, first = s * ctx.groups // networks, s * (1 + 2 * depth)
            weights, read = saved[first : first + depth], saved[first + depth : first + 2 * depth + 1]
            if not ctx.linear:
                grad = masked(grad, read[-1])
            for layer in reversed(range(depth)):
                torch.mm(read[layer].T, grad, out=each[layer][s])
                torch.sum(grad, dim=0, keepdim=True, out=each[depth + layer][s])
                if layer:
                    grad = masked_(grad @ weights[layer].T, read[layer])
            if ctx.needs_input_grad[4 + group]:
                known, weight_OI = inputs[group], weights[0].T
                inputs[group] = grad @ weight_OI if known is None else known.addmm_(grad, weight_OI)
        of_inputs = (x if x is None else x.to(ctx.dtype) for x in inputs)
        whole = (_together(one_SIO, *told) for one_SIO, told in zip(own, ctx.parameters, strict=True))
        return None, None, None, None, *of_inputs, *whole


def _run(
    dtype: torch.dtype, linear: bool, groups: int, networks: int, *told: Tensor
) -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
    """Of every network what it read, its weights, and what every layer handed on, all in one dtype."""
    inputs, parameters = [x_BI.to(dtype) for x_BI in told[:groups]], told[groups:]
    depth = len(parameters) // 2
    for s, layers in enumerate(by_network(parameters[:depth], parameters[depth:], networks, dtype)):
        x_BI = inputs[s * groups // networks]
        yield x_BI, [weight_IO for weight_IO, _ in layers], through(layers, x_BI, linear=linear)


def _apart(parameter: Tensor, networks: int) -> Tensor:
    """A view of a weight or bias by group and by network of it: in the first layer they lie side by side."""
    groups, rows, width = parameter.shape
    each = networks // groups
    return parameter.view(groups, rows, each, width // each).transpose(1, 2)


def _together(apart_SIO: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """What belongs to the networks as one weight or bias of this shape and dtype."""
    whole = apart_SIO.new_empty(shape, dtype=dtype)
    apart = _apart(whole, len(apart_SIO))
    apart.copy_(apart_SIO.view(apart.shape))
    return whole
