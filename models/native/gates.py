"""`models.gates` by the compiled kernels.

Shapes: as there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.native.library import call


class NativeGates(torch.autograd.Function):
    """What gates that read the same input say, in float32; products are of bfloat16."""

    @staticmethod
    def forward(ctx: Any, x_BI: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        """Weights of the experts by gate, each of shape (E, B).

        Args:
            ctx: of this call.
            x_BI: the input.
            weights: of every gate, shape (E, I) with its own E, float32.

        Raises:
            ValueError: a gate reads another width.
        """
        if any(weight_EI.shape[1] != x_BI.shape[1] for weight_EI in weights):
            shapes = [tuple(weight_EI.shape) for weight_EI in weights]
            raise ValueError(f"Gates of shapes {shapes} cannot read an input of shape {tuple(x_BI.shape)}.")
        narrow_BI = x_BI.to(torch.bfloat16).contiguous()
        weights = tuple(weight_EI.contiguous() for weight_EI in weights)
        shares = tuple(weight_EI.new_empty(len(weight_EI), len(x_BI)) for weight_EI in weights)
        call("gates_forward", *_shape(narrow_BI, weights), weights, narrow_BI, shares)
        ctx.save_for_backward(narrow_BI, *weights, *shares)
        ctx.dtype = x_BI.dtype
        return shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the input and of the weights of every gate."""
        x_BI, *saved = ctx.saved_tensors
        weights, shares = saved[: len(grads)], saved[len(grads) :]
        own = [torch.empty_like(weight_EI) for weight_EI in weights]
        of_x = torch.empty_like(x_BI) if ctx.needs_input_grad[0] else None
        of_shares = [grad_EB.contiguous() for grad_EB in grads]
        call("gates_backward", *_shape(x_BI, weights), weights, x_BI, shares, of_shares, own, of_x)
        return None if of_x is None else of_x.to(ctx.dtype), *own


def _shape(x_BI: Tensor, weights: tuple[Tensor, ...] | list[Tensor]) -> tuple[int, int, int, list[int]]:
    return *x_BI.shape, len(weights), [len(weight_EI) for weight_EI in weights]
