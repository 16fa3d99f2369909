"""Several gates mix the same experts, as one node of the graph.

Shapes: B rows, O expert output width, E experts that a gate selects from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.native.library import multiply
from models.native.mixtures import NativeMixtures

#: Places of the experts that each gate selects from, in the order of its weights.
Selected: TypeAlias = Sequence[Sequence[int]]


def mixtures(weights: Sequence[Tensor], experts: Sequence[Tensor], selected: Selected) -> tuple[Tensor, ...]:
    """Weighted sums over experts by gate, each of shape (B, O), in the dtype of the experts.

    What several gates ask of one expert is added up in place, and nothing is stacked: as many operations as
    there are terms, forward, and three times as many backward.

    Args:
        weights: of every gate, its output of shape (E, B) with the gate's own E.
        experts: outputs of shape (B, O).
        selected: by gate, the places of its experts among them.
    """
    if all(multiply(expert.dtype, expert.device) for expert in experts):
        wide = [weight_EB.float() for weight_EB in weights]
        return NativeMixtures.apply(selected, len(weights), *wide, *experts)  # type: ignore[no-any-return, no-untyped-call]
    narrow = [weight_EB.to(experts[0].dtype) for weight_EB in weights]
    return _Mixtures.apply(selected, len(weights), *narrow, *experts)  # type: ignore[no-any-return, no-untyped-call]


class _Mixtures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, selected: Selected, gates: int, *told: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        weights, experts = told[:gates], told[gates:]
        mixed = []
        for weight_EB, places in zip(weights, selected, strict=True):
            first_B1, *others = weight_EB.unsqueeze(2).unbind()
            mixed_BO = experts[places[0]] * first_B1
            for weight_B1, place in zip(others, places[1:], strict=True):
                mixed_BO.addcmul_(experts[place], weight_B1)
            mixed.append(mixed_BO)
        ctx.save_for_backward(*told)
        ctx.selected, ctx.gates = selected, gates
        return tuple(mixed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        told = ctx.saved_tensors
        weights, experts = told[: ctx.gates], told[ctx.gates :]
        of_weights, of_experts = [], [None] * len(experts)
        for grad_BO, weight_EB, places in zip(grads, weights, ctx.selected, strict=True):
            of_weight_EB = torch.empty_like(weight_EB)
            for of_weight_B, weight_B1, place in zip(
                of_weight_EB.unbind(), weight_EB.unsqueeze(2).unbind(), places, strict=True
            ):
                torch.sum(grad_BO * experts[place], dim=1, out=of_weight_B)
                known = of_experts[place]
                of_experts[place] = (
                    grad_BO * weight_B1 if known is None else known.addcmul_(grad_BO, weight_B1)
                )
            of_weights.append(of_weight_EB)
        return None, None, *of_weights, *of_experts
