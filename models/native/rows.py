"""What a batch does with rows of the table, by the compiled kernels where they are there.

Shapes: N looked-up positions, R rows of the table, D numbers per vector, X columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.batch import PADDING_ROW
from models.native.library import call, multiply


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


def move_rows(
    optimizer: str,
    sorted_N: Tensor,
    order_N: Tensor,
    grad_ND: Tensor,
    *,
    rates: Sequence[float],
    state: Sequence[Tensor],
) -> None:
    """Take an optimiser's step in one pass over the rows of the batch; the padding row never moves.

    Args:
        optimizer: its kernel.
        sorted_N: table row of each looked-up position, ascending, int64.
        order_N: which position that was, int64.
        grad_ND: gradients in the order of the batch, float32.
        rates: its settings, in the order of the kernel.
        state: what it knows of the rows and the table, likewise; changed in place.

    Raises:
        IndexError: a row is negative or not below R.
    """
    if len(sorted_N) and not 0 <= int(sorted_N[0]) <= int(sorted_N[-1]) < len(state[-1]):
        raise IndexError(
            f"Rows {int(sorted_N[0])} to {int(sorted_N[-1])} are not all of the table's {len(state[-1])}."
        )
    shape = len(sorted_N), grad_ND.shape[1], PADDING_ROW
    call(optimizer, *shape, *(float(rate) for rate in rates), sorted_N, order_N, grad_ND, *state)
