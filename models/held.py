"""Tensors that are held by their parts and read like the plain tensor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

#: Questions that the shape answers.
_ABOUT = frozenset(
    {
        Tensor.size,
        Tensor.dim,
        Tensor.stride,
        Tensor.numel,
        Tensor.__len__,
        Tensor.is_floating_point,
        *(
            vars(torch._C.TensorBase)[name].__get__
            for name in ("shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda")
        ),
    }
)


class Held(Tensor):
    """A tensor in parts, of which some operations can be done one by one.

    Every other operation gets the ``whole``, which makes it right whatever a network does, at the plain
    price. Made with ``Tensor._make_wrapper_subclass``.
    """

    #: By operation, how it is done by parts; it answers ``None`` where it is asked for in another form.
    known: ClassVar[Mapping[Callable[..., Any], Callable[..., Any]]]

    @abstractmethod
    def whole(self) -> Tensor:
        """The plain tensor, made when it is first asked for."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        """Do an operation by parts if it is known to come apart, else on the whole."""
        if func in _ABOUT:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if (by_parts := cls.known.get(func)) is not None:
            found = by_parts(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*tree_map(_plain, args), **tree_map(_plain, dict(kwargs or {})))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        """Operations from below Python get the whole."""
        return func(*tree_map(_plain, args), **tree_map(_plain, dict(kwargs or {})))


def _plain(value: object) -> object:
    return value.whole() if isinstance(value, Held) else value
