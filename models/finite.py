"""A step is taken with finite numbers or not at all.

Shapes: K objectives.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from features.funnel import Funnel


class NotFinite(ArithmeticError):
    """A loss or a gradient was NaN or infinite; the weights were not touched."""


def refuse_losses(losses_K: Tensor, funnel: Funnel, step: int) -> None:
    """Refuse losses of which one is not finite.

    Raises:
        NotFinite: naming the step and the objectives.
    """
    if not torch.isfinite(losses_K).all():
        bad = [
            f"{name} ({loss})"
            for name, loss in zip(funnel.names, losses_K.tolist(), strict=True)
            if not torch.isfinite(torch.tensor(loss))
        ]
        raise NotFinite(
            f"Loss is not finite at step {step}: {', '.join(bad)}. No weight was changed. "
            "Look for non-finite dense columns or weights in the batch, or lower the rates."
        )


def refuse_gradients(gradients: Mapping[str, Tensor | None], step: int) -> None:
    """Refuse gradients of which one is not finite.

    Raises:
        NotFinite: naming the step and the parameters.
    """
    # a sum is finite only if all its terms are, and is the cheapest pass over a tensor
    bad = [name for name, g in gradients.items() if g is not None and not torch.isfinite(g.sum())]
    if bad:
        raise NotFinite(f"Gradient is not finite at step {step}: {', '.join(bad)}. No weight was changed.")
