"""No kernel touches a byte behind a tensor that it was told: there lies a page that nobody may touch."""

from __future__ import annotations

import ctypes
import mmap
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.gates import Gate, weigh
from models.lazy_adam import LazyAdam
from models.mixture import mixtures
from models.native import finite, gates, library, rows
from models.native import mixtures as native_mixtures
from models.native import networks as native_networks
from models.relu_networks import relu_networks
from models.row_wise_adagrad import RowWiseAdagrad

_MODULES = (finite, gates, native_mixtures, native_networks, rows)
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Bytes of a tensor that end where a page begins that is neither read nor written."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        size = tensor.numel() * tensor.element_size()
        whole = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, whole + mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.address = start + whole - size
        assert _libc.mprotect(ctypes.c_void_p(start + whole), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        ctypes.memmove(self.address, tensor.data_ptr(), size)
        self._size = size

    def back(self) -> None:
        ctypes.memmove(self.tensor.data_ptr(), self.address, self._size)


@pytest.fixture
def guard(use_kernels: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels are given guarded copies; names of those that were called."""
    del use_kernels
    called: list[str] = []
    plain = library._argument

    def guarded(name: str, *told: Any, **how: bool) -> None:
        called.append(name)
        made: list[Guarded] = []

        def address(tensor: Tensor) -> int:
            made.append(Guarded(tensor))
            return made[-1].address

        def argument(one: Any) -> object:
            if isinstance(one, Tensor):
                return ctypes.c_void_p(address(one))
            if isinstance(one, (list, tuple)) and any(isinstance(each, Tensor) for each in one):
                return (ctypes.c_void_p * len(one))(
                    *(None if each is None else address(each) for each in one)
                )
            return plain(one)

        monkeypatch.setattr(library, "_argument", argument)
        library.call(name, *told, **how)
        for one in made:
            one.back()

    for module in _MODULES:
        if hasattr(module, "call"):
            monkeypatch.setattr(module, "call", guarded)
    return called


SHAPES = [(1, 1, (1,)), (3, 5, (7, 2)), (258, 16, (64, 32)), (259, 33, (65, 17, 3)), (7, 130, (31, 1))]


def of_weights(
    width: int, layers: tuple[int, ...], groups: int, per_group: int
) -> list[tuple[int, int, int]]:
    first, *later = layers
    deeper = [(groups * per_group, *two) for two in zip(layers, later, strict=False)]
    return [(groups, width, per_group * first), *deeper]


@pytest.mark.parametrize(("count", "width", "layers"), SHAPES)
@pytest.mark.parametrize(("groups", "per_group"), [(1, 1), (1, 2), (2, 1)])
def test_networks(
    guard: list[str], count: int, width: int, layers: tuple[int, ...], groups: int, per_group: int
) -> None:
    every, shapes = groups * per_group, of_weights(width, layers, groups, per_group)
    weights = [torch.randn(shape, requires_grad=True) for shape in shapes]
    biases = [torch.randn(shape[0], 1, shape[2], requires_grad=True) for shape in shapes]
    inputs = [torch.randn(count, width).bfloat16().requires_grad_() for _ in range(groups)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relu_networks(weights, biases, inputs, networks=every)
        with torch.no_grad():
            scored = relu_networks(weights, biases, inputs, networks=every)
    assert torch.equal(torch.stack(found), torch.stack(scored))
    torch.autograd.backward(found, [torch.randn_like(one) for one in found])
    assert guard == ["networks_forward", "networks_forward", "networks_backward"]


@pytest.mark.parametrize(("count", "width", "layers"), SHAPES)
@pytest.mark.parametrize(("groups", "per_group"), [(1, 2), (2, 1)])
@pytest.mark.usefixtures("use_wide")
def test_networks_in_float32(
    guard: list[str], count: int, width: int, layers: tuple[int, ...], groups: int, per_group: int
) -> None:
    every, shapes = groups * per_group, of_weights(width, layers, groups, per_group)
    weights, biases = ([torch.randn(s) for s in told] for told in (shapes, [(s[0], 1, s[2]) for s in shapes]))
    inputs = [torch.randn(count, width).relu() for _ in range(groups)]
    with torch.no_grad():
        found = relu_networks(weights, biases, inputs, networks=every)
    assert torch.stack(found).isfinite().all()
    assert guard == ["networks_forward"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("count", "width", "layers"), SHAPES)
@pytest.mark.usefixtures("use_wide")
def test_pairs(guard: list[str], count: int, width: int, layers: tuple[int, ...], dtype: torch.dtype) -> None:
    shapes = [(1, *two) for two in pairwise((width, *layers))]
    weights, biases = ([torch.randn(s) for s in told] for told in (shapes, [(1, 1, s[2]) for s in shapes]))
    table = torch.randn(9, width).to(dtype)
    table[:, ::2] = -1  # units that are dark, so that rows are packed
    places = torch.randint(0, 9, (count, 2))
    found = native_networks.outputs_of_pairs(table, places, weights, biases, linear=True)
    assert found.isfinite().all()
    assert guard == ["pairs_forward"]


@pytest.mark.parametrize(("count", "width"), [(1, 1), (5, 31), (65, 33), (259, 64)])
def test_gates_and_mixtures(guard: list[str], count: int, width: int) -> None:
    x = torch.randn(count, width).bfloat16().requires_grad_()
    experts = [torch.randn(count, width).bfloat16().requires_grad_() for _ in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = weigh([Gate(width, 3), Gate(width, 2)], x)
        found = mixtures(weights, experts, [(0, 1, 2), (1, 2)])
    torch.autograd.backward(found, [torch.randn_like(one) for one in found])
    names = ("gates_forward", "mixtures_forward", "mixtures_backward", "gates_backward")
    assert tuple(guard) == names


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 15, 16, 33])
def test_rows(guard: list[str], width: int, dtype: torch.dtype) -> None:
    taken = torch.from_numpy(np.r_[np.arange(40), 39, 39])
    for optimizer in (RowWiseAdagrad, LazyAdam):
        moved = optimizer(torch.randn(40, width), rate=0.1)
        moved.step(taken, torch.randn(len(taken), width).to(dtype))
    assert rows.rounded_vectors(moved.weight_RD, taken).isfinite().all()
    wide = rows.widened(torch.randn(7, width + 3).bfloat16(), width, torch.float32)
    assert finite.all_finite([wide, moved.weight_RD.to(dtype)]) == [True, True]
    assert guard == ["row_wise_adagrad", "lazy_adam", "gather", "widen", "all_finite"]


@pytest.mark.parametrize(("read", "ends"), [(32, 0), (33, -signal.SIGSEGV)])
def test_the_guard_bites(read: int, ends: int) -> None:
    code = f"""
import ctypes, torch
from tests.models.native.test_native_bounds import Guarded
guarded = Guarded(torch.zeros(8))
ctypes.string_at(guarded.address, {read})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == ends
