"""What a metric is measured on: a label or value, and what was predicted of it, per row; N rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, Any]
Vector = Array | Tensor
"""One number per row, as a NumPy array or a torch tensor on the CPU."""


def pairs(y: Vector, p: Vector) -> tuple[Array, Array]:
    """Both as arrays of shape (N,), in their own type.

    Raises:
        ValueError: of unlike shapes, or a number that is not finite.
    """
    y_N, p_N = np.asarray(y), np.asarray(p)
    if y_N.shape != p_N.shape or y_N.ndim != 1:
        raise ValueError(f"One number per row on either side, not shapes {y_N.shape} and {p_N.shape}.")
    if not (np.isfinite(y_N).all() and np.isfinite(p_N).all()):
        raise ValueError("Labels and predictions must be finite.")
    return y_N, p_N


def labelled(y: Vector, p: Vector) -> tuple[Array, Array]:
    """Labels as int64 and scores in their own type, each (N,).

    Raises:
        ValueError: as of ``pairs``, or a label that is neither 0 nor 1.
    """
    y_N, p_N = pairs(y, p)
    if not ((y_N == 0) | (y_N == 1)).all():
        raise ValueError("A label is 0 or 1.")
    return y_N.astype(np.int64), p_N


def probable(y: Vector, p: Vector) -> tuple[Array, Array]:
    """Labels as int64 and probabilities as float64, each (N,).

    Raises:
        ValueError: as of ``labelled``, or a probability outside 0 to 1.
    """
    y_N, p_N = labelled(y, p)
    if ((p_N < 0) | (p_N > 1)).any():
        raise ValueError("A probability lies between 0 and 1.")
    return y_N, p_N.astype(np.float64)
