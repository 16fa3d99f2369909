"""What a batch does with rows of the table, by the compiled kernels where they are there.

Shapes: B rows, N looked-up positions, R rows of the table, D numbers per vector, X columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.batch import PADDING_ROW
from models.native.library import call, multiply, read

#: Rows and positions that a kernel can tell apart.
_MOST = 1 << 32


def rounded_vectors(weight_RD: Tensor, rows_N: Tensor) -> Tensor:
    """Rows of a table in bfloat16, shape (N, D).

    Args:
        weight_RD: the table, float32.
        rows_N: which rows, int64.

    Raises:
        IndexError: a row is negative or not below R.
    """
    found = weight_RD.new_empty(len(rows_N), weight_RD.shape[1], dtype=torch.bfloat16)
    call("gather", *found.shape, len(weight_RD), rows_N.contiguous(), weight_RD, found)
    return found


def widened(of_rows: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """The first columns of every row in this dtype, shape (..., columns).

    Args:
        of_rows: shape (..., X).
        columns: at most X.
        dtype: of the result.
    """
    if dtype != torch.float32 or not columns or not multiply(of_rows.dtype, of_rows.device):
        return of_rows[..., :columns].to(dtype)
    of_rows = of_rows.contiguous()
    *shape, width = of_rows.shape
    found = of_rows.new_empty(*shape, columns, dtype=dtype)
    call("widen", found.numel() // columns, columns, width, of_rows, found)
    return found


def moves(grad_ND: Tensor, *of_rows: Tensor) -> bool:
    """Whether the kernels can move the rows of a table with these gradients, as they lie."""
    wide = all(one.dtype == torch.float32 for one in of_rows)
    return wide and len(of_rows[-1]) < _MOST and len(grad_ND) < _MOST and read(grad_ND, *of_rows)


def move_rows(
    optimizer: str, rows_N: Tensor, grad_ND: Tensor, *, rates: Sequence[float], state: Sequence[Tensor]
) -> None:
    """Take an optimiser's step in one pass over the rows of the batch; the padding row never moves.

    Gradients of one row are added up in the order of the batch.

    Args:
        optimizer: its kernel.
        rows_N: table row of each looked-up position, int64.
        grad_ND: its gradient, float32 or bfloat16.
        rates: settings of the optimiser, in the order of the kernel.
        state: what it knows of the rows, and last the table, likewise; changed in place.

    Raises:
        IndexError: a row is negative or not below R; nothing was changed.
        ValueError: gradients of another number or width.
    """
    expected = len(rows_N), state[-1].shape[1]
    if grad_ND.shape != expected:
        raise ValueError(f"Gradients of shape {tuple(grad_ND.shape)} for rows of shape {tuple(expected)}.")
    shape = len(rows_N), grad_ND.shape[1], len(state[-1]), PADDING_ROW
    narrow = int(grad_ND.dtype == torch.bfloat16)
    call(optimizer, *shape, narrow, *(float(rate) for rate in rates), rows_N.contiguous(), grad_ND, *state)
