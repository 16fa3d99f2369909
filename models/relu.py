"""ReLU and its mask, for where no graph is made; numbers of bfloat16 are told apart by their bits.

A processor widens bfloat16 to compare it with zero and rounds it again, which takes three to four times as
long as reading and writing it. Read as an int16, what is below zero is below zero, so nothing needs widening.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Bits of minus infinity as an int16. Above it, below zero, lie NaNs, which stay, as they do in torch.
_LOWEST = -128
_mask = torch.ops.aten.threshold_backward


def relu_(x: Tensor) -> Tensor:
    """``max(x, 0)`` in place; a NaN stays one."""
    if _has_bits(x):
        torch.threshold_(x.view(torch.int16), _LOWEST, 0)
        return x
    return x.relu_()


def masked(grad: Tensor, output: Tensor) -> Tensor:
    """The gradient of a ReLU's input: that of its output where this is above zero, else 0."""
    if _has_bits(grad):
        found: Tensor = _mask(grad.view(torch.int16), output.view(torch.int16), 0)
        return found.view(torch.bfloat16)
    return _mask(grad, output, 0)  # type: ignore[no-any-return]


def masked_(grad: Tensor, output: Tensor) -> Tensor:
    """``masked`` in place."""
    own, of = (grad.view(torch.int16), output.view(torch.int16)) if _has_bits(grad) else (grad, output)
    _mask.grad_input(own, of, 0, grad_input=own)
    return grad


def _has_bits(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"
