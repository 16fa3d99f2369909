"""`models.finite` by the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.native.library import call


def all_finite(known: Sequence[Tensor]) -> list[bool]:
    """Whether all numbers of each tensor, float32 or bfloat16 in one piece, are finite."""
    found = torch.empty(len(known), dtype=torch.int64, device="cpu")
    narrow = [int(one.dtype == torch.bfloat16) for one in known]
    call("all_finite", len(known), [one.numel() for one in known], narrow, known, found)
    return [bool(one) for one in found.tolist()]
