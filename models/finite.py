"""A step is taken with finite numbers or not at all.

Shapes: K objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from features.funnel import Funnel
from models.native.finite import all_finite
from models.native.library import read


class NotFinite(ArithmeticError):
    """A loss or a gradient was NaN or infinite; the weights were not touched."""


def refuse_losses(losses_K: Tensor, funnel: Funnel, step: int) -> None:
    """Refuse losses of which one is not finite.

    Raises:
        NotFinite: naming the step and the objectives.
    """
    named = zip(funnel.names, losses_K.tolist(), strict=True)
    if bad := [f"{name} ({loss})" for name, loss in named if not isfinite(loss)]:
        raise NotFinite(
            f"Loss is not finite at step {step}: {', '.join(bad)}. No weight was changed. "
            "Look for non-finite dense columns or weights in the batch, or lower the rates."
        )


def refuse_gradients(vectors_grad: Tensor | None, parameters: Mapping[str, nn.Parameter], step: int) -> None:
    """Refuse gradients of which one is not finite.

    Args:
        vectors_grad: of the vectors of the batch, if they have one.
        parameters: whose gradients are asked, by name.
        step: of the line.

    Raises:
        NotFinite: naming the step and the parameters.
    """
    gradients = {"embedding": vectors_grad, **{name: p.grad for name, p in parameters.items()}}
    known = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    if not known:
        return
    if bad := [name for name, one in zip(known, _finite([*known.values()]), strict=True) if not one]:
        raise NotFinite(f"Gradient is not finite at step {step}: {', '.join(bad)}. No weight was changed.")


def _finite(known: Sequence[Tensor]) -> list[bool]:
    """Whether all numbers of each tensor are finite."""
    if read(*known):
        return all_finite(known)
    # a sum is finite only if all its terms are, and is the cheapest pass over a tensor; the answer is fetched
    # from the device once
    return torch.isfinite(torch.stack([one.sum() for one in known])).tolist()


def named_parameters(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter by the name that a refusal gives it."""
    return {f"{part}.{name}": p for part, module in modules.items() for name, p in module.named_parameters()}
