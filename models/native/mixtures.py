"""`models.mixture` by the compiled kernels.

Shapes: as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.native.library import call


class NativeMixtures(torch.autograd.Function):
    """``mixtures`` of experts in bfloat16 with weights in float32."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        selected: Sequence[Sequence[int]],
        gates: int,
        *told: Tensor,
    ) -> tuple[Tensor, ...]:
        """Weighted sums by gate, each of shape (B, O).

        Args:
            ctx: of this call.
            selected: by gate, the places of its experts.
            gates: how many they are.
            told: weights of every gate, (E, B) with its own E, then the experts, (B, O).

        Raises:
            ValueError: shapes that do not belong together, of which a kernel would read what is not there.
        """
        told = tuple(one.contiguous() for one in told)
        weights, experts = told[:gates], told[gates:]
        rows, width = experts[0].shape
        expected = [(len(places), rows) for places in selected] + [(rows, width)] * len(experts)
        if (found := [tuple(one.shape) for one in told]) != expected:
            raise ValueError(f"Gates and experts of shapes {found}, expected {expected}.")
        mixed = tuple(torch.empty_like(experts[0]) for _ in weights)
        call("mixtures_forward", *experts[0].shape, gates, *_places(selected), weights, experts, mixed)
        ctx.save_for_backward(*told)
        ctx.selected, ctx.gates = selected, gates
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the weights of every gate and of every expert."""
        told = ctx.saved_tensors
        own = [torch.empty_like(one) for one in told]
        weights, experts = told[: ctx.gates], told[ctx.gates :]
        call(
            "mixtures_backward",
            *(*experts[0].shape, ctx.gates, len(experts), *_places(ctx.selected), weights, experts),
            *([grad.contiguous() for grad in grads], own[: ctx.gates], own[ctx.gates :]),
        )
        return None, None, *own


def _places(selected: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """How many experts each gate selects, and which, one gate behind the other."""
    return [len(one) for one in selected], [place for one in selected for place in one]
