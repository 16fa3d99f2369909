"""ReLU networks of equal shape as one node of the graph, laid out so that no product copies what it reads.

Shapes: B rows, I input width, G groups that read the same input, N networks per group, S = G * N networks,
O output width of a layer, W = N * O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

threshold_backward = torch.ops.aten.threshold_backward


def relu_networks(
    weights: Sequence[Tensor], biases: Sequence[Tensor], x_GBI: Tensor, *, linear: bool = False
) -> Tensor:
    """Outputs of ReLU networks, shape (S, B, O) or, of a single layer, (G, B, W).

    Args:
        weights: of every layer: (G, I, W) of the first, (S, I, O) of the later ones.
        biases: of every layer: (G, 1, W), then (S, 1, O).
        x_GBI: input.
        linear: leave ReLU out after the last layer.
    """
    return ReluNetworks.apply(working_dtype(x_GBI), linear, x_GBI, *weights, *biases)  # type: ignore[no-any-return, no-untyped-call]


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype that products are made in here: that of ``autocast``, else the tensor's own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class ReluNetworks(torch.autograd.Function):
    """The layers of ``models.blocks.Networks``, forward and backward.

    Layers between the first and the last hold units down and rows across. So the N networks of a group lie
    side by side for the first layer, which is one product of width W, and apart for the next: (G, W, B) and
    (S, O, B) are the same bytes. With rows down one of the two needs a copy, and of its transposed, which the
    gradient of a weight multiplies, a slow one.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        dtype: torch.dtype,
        linear: bool,
        x_GBI: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """Outputs of all networks, shape (S, B, O).

        Args:
            ctx: of this call.
            dtype: of the products.
            linear: leave ReLU out after the last layer.
            x_GBI: input.
            parameters: weights of the layers as ``Networks`` holds them, then their biases.
        """
        depth = len(parameters) // 2
        read_GBI, weights = x_GBI.to(dtype), [weight.to(dtype) for weight in parameters[:depth]]
        biases = [bias.to(dtype) for bias in parameters[depth:]]
        h, hidden = read_GBI.transpose(1, 2), []
        for weight, bias in zip(weights[:-1], biases, strict=False):
            h = products(weight.transpose(1, 2), _apart(h, weight)).add_(bias.transpose(1, 2)).relu_()
            hidden.append(h)
        out = products(_apart(h, weights[-1]).transpose(1, 2), weights[-1], biases[-1])
        out = out if linear else out.relu_()
        ctx.save_for_backward(read_GBI, *weights, *hidden, out)
        ctx.linear, ctx.depth, ctx.dtypes = linear, depth, (x_GBI.dtype, parameters[0].dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_SBO: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the input, of every weight and of every bias."""
        read_GBI, *saved = ctx.saved_tensors
        weights, hidden, out = saved[: ctx.depth], saved[ctx.depth : -1], saved[-1]
        grad = (grad_SBO if ctx.linear else threshold_backward(grad_SBO, out, 0)).transpose(1, 2)
        moved, biases = [], []
        for layer in reversed(range(ctx.depth)):
            weight = weights[layer]
            below = hidden[layer - 1] if layer else read_GBI.transpose(1, 2)
            moved.append(products(_apart(below, weight), grad.transpose(1, 2)))
            biases.append(grad.sum(dim=2).unsqueeze(1))
            if layer:
                under = weights[layer - 1]
                grad = threshold_backward(_apart(products(weight, grad), under), _apart(below, under), 0)
        x = products(grad.transpose(1, 2), weights[0].transpose(1, 2)) if ctx.needs_input_grad[2] else None
        of_x, of_parameters = ctx.dtypes
        own = [g.to(of_parameters) for g in (*moved[::-1], *biases[::-1])]
        return None, None, None if x is None else x.to(of_x), *own


def products(left_SMK: Tensor, right_SKN: Tensor, bias_S1N: Tensor | None = None) -> Tensor:
    """Batched product of matrices that may be transposed, shape (S, M, N); for where no graph is made.

    On a processor one by one: ``bmm`` copies what is transposed, at up to twice the time of the product, and
    adds a bias in a pass of its own.
    """
    if left_SMK.device.type != "cpu":
        found_SMN = torch.bmm(left_SMK, right_SKN)
        return found_SMN if bias_S1N is None else found_SMN.add_(bias_S1N)
    found_SMN = left_SMK.new_empty(*left_SMK.shape[:2], right_SKN.shape[2])
    for s in range(left_SMK.shape[0]):
        if bias_S1N is None:
            torch.mm(left_SMK[s], right_SKN[s], out=found_SMN[s])
        else:
            torch.addmm(bias_S1N[s, 0], left_SMK[s], right_SKN[s], out=found_SMN[s])
    return found_SMN


def _apart(h: Tensor, weight_SIO: Tensor) -> Tensor:
    """Units by the networks that read them, shape (S, I, B)."""
    return h if h.shape[0] == weight_SIO.shape[0] else h.view(weight_SIO.shape[0], -1, h.shape[2])
