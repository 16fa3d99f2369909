"""Which operations on a tensor of pairs come apart into what users, items and pairs contribute.

An operation that is asked for in another form than those below answers ``None``: it is then done on
the whole tensor. Shapes: B rows of the block, R rows of a side, G groups, I input width, O output width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from models.split import Split


def _bmm(x_GBI: Split, weight_GIO: Tensor) -> Tensor | None:
    return _product(x_GBI, weight_GIO, None)


def _baddbmm(bias_G1O: Tensor, x_GBI: Split, weight_GIO: Tensor) -> Tensor | None:
    return _product(x_GBI, weight_GIO, bias_G1O)


def _product(x_GBI: Split, weight_GIO: Tensor, bias_G1O: Tensor | None) -> Tensor | None:
    if _axes(x_GBI) != (1, 2) or _axes(weight_GIO) is not None or x_GBI.dim() != 3:
        return None

    def make(values_GRI: Tensor, places_I: Tensor, first: bool) -> Tensor:
        own_GIO = weight_GIO.index_select(1, places_I)
        if first and bias_G1O is not None:
            return torch.baddbmm(bias_G1O, values_GRI, own_GIO)
        return torch.bmm(values_GRI, own_GIO)

    names = _name(weight_GIO), None if bias_G1O is None else _name(bias_G1O)
    key = ("product", *names, torch.is_autocast_enabled(x_GBI.device.type))
    return x_GBI.added(key, (weight_GIO, bias_G1O), make, rows_axis=1)


def _matmul(weight_OI: Tensor, x_IB: Split) -> Tensor | None:
    """A gate: its weights times the input, rows last."""
    if _axes(x_IB) != (1, 0) or _axes(weight_OI) is not None or weight_OI.dim() != 2:
        return None
    key = ("gate", _name(weight_OI), torch.is_autocast_enabled(x_IB.device.type))
    return x_IB.added(
        key, weight_OI, lambda v_IR, places_I, first: weight_OI.index_select(1, places_I) @ v_IR, rows_axis=1
    )


def _sum(x: Split, dim: int | tuple[int, ...] | None = None) -> Tensor | None:
    """A sum over columns, and over what else is no row."""
    axes = _axes(x)
    if axes is None or dim is None:
        return None
    dims = tuple(d % x.dim() for d in ((dim,) if isinstance(dim, int) else dim))
    if axes[0] in dims or axes[1] not in dims:
        return None
    rows_axis = axes[0] - sum(d < axes[0] for d in dims)
    return x.added(
        ("sum", dims), None, lambda values, places, first: values.sum(dim=dims), rows_axis=rows_axis
    )


def _square(x: Split) -> Split:
    return x.by_part("square", torch.square, rows_axis=x.rows_axis, columns_axis=x.columns_axis)


def _detach(x: Split) -> Split:
    return x


def _transpose(x: Split, first: int = 0, second: int = 1) -> Split | None:
    axes = _axes(x)
    if axes is None:
        return None
    turned = {first % x.dim(): second % x.dim(), second % x.dim(): first % x.dim()}
    rows_axis, columns_axis = (turned.get(axis, axis) for axis in axes)
    key = ("transpose", first, second)
    return x.by_part(
        key, lambda values: values.transpose(first, second), rows_axis=rows_axis, columns_axis=columns_axis
    )


def _turn(x: Split) -> Split | None:
    return _transpose(x) if x.dim() == 2 else None


def _get(x: Split, index: object) -> Split | None:
    """One or some along a leading axis that is neither that of the rows nor that of the columns."""
    axes = _axes(x)
    if axes is None or 0 in axes or not isinstance(index, int | slice):
        return None
    fewer = 1 if isinstance(index, int) else 0
    named = index if isinstance(index, int) else (index.start, index.stop, index.step)
    return x.by_part(
        ("get", named), lambda values: values[index], rows_axis=axes[0] - fewer, columns_axis=axes[1] - fewer
    )


def _unbind(x: Split, dim: int = 0) -> tuple[Split | None, ...] | None:
    axes = _axes(x)
    if axes is None or dim != 0 or 0 in axes:
        return None
    return tuple(_get(x, place) for place in range(x.shape[0]))


def _squeeze(x: Split, dim: int) -> Split | None:
    return _get(x, 0) if dim == 0 and x.shape[0] == 1 else None


def _unsqueeze(x: Split, dim: int) -> Split | None:
    axes = _axes(x)
    if axes is None or dim != 0:
        return None
    return x.by_part(
        "unsqueeze", lambda values: values.unsqueeze(0), rows_axis=axes[0] + 1, columns_axis=axes[1] + 1
    )


def _expand(x: Split, *sizes: int) -> Split | None:
    """Repeated along a leading axis."""
    axes = _axes(x)
    if axes != (1, 2) or len(sizes) != 3 or sizes[1:] != (-1, -1):
        return None
    return x.by_part(("expand", sizes), lambda values: values.expand(*sizes), rows_axis=1, columns_axis=2)


def _name(weight: Tensor) -> Hashable:
    """What a weight is known by: itself, or its numbers where it is put together anew for every block."""
    return id(weight) if isinstance(weight, nn.Parameter) else weight.detach().cpu().numpy().tobytes()


def _axes(x: object) -> tuple[int, int] | None:
    """Axes of the rows and the columns of a tensor that is held by parts."""
    columns = getattr(x, "columns_axis", None)
    return None if columns is None else (x.rows_axis, columns)  # type: ignore[attr-defined]


#: By operation, how it is done by parts.
KNOWN: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.bmm: _bmm,
    torch.baddbmm: _baddbmm,
    torch.matmul: _matmul,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    torch.sum: _sum,
    Tensor.sum: _sum,
    torch.square: _square,
    Tensor.square: _square,
    Tensor.detach: _detach,
    Tensor.transpose: _transpose,
    vars(torch._C.TensorBase)["T"].__get__: _turn,
    Tensor.__getitem__: _get,
    torch.unbind: _unbind,
    Tensor.unbind: _unbind,
    Tensor.__iter__: _unbind,
    Tensor.squeeze: _squeeze,
    Tensor.unsqueeze: _unsqueeze,
    Tensor.expand: _expand,
}
