"""Tables in pages of 2 MiB: rows lie all over a table, and a row's page is then found in one step.

Of 4 KiB, the pages of a large table are too many for the processor to remember. What comes and goes with a
batch is better off without: in pages of 2 MiB every tensor of that size takes up two of them.

Shapes: R rows of the table, D numbers per vector.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod

import torch
from torch import Tensor

_PAGE = 2 << 20


def zero_table(*shape: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """A tensor of zeros, in huge pages where it is large and the system has them (Linux).

    Args:
        shape: R, and what a row has.
        dtype: of the numbers.
        device: of the tensor; pages are the processor's affair.
    """
    size = prod(shape) * dtype.itemsize
    if size < _PAGE or torch.device(device).type != "cpu" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def zeros_beside(weight_RD: Tensor, *of_row: int, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros for every row of a table, shape (R, of_row), as `zero_table` makes them, where the table is."""
    return zero_table(len(weight_RD), *of_row, dtype=dtype or weight_RD.dtype, device=weight_RD.device)
