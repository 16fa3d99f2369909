"""The compiled kernels, where somebody has built them and the processor has the instructions.

They are an extra: without them every line runs on torch alone, to the same results but for rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import torch
from torch import Tensor

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """Kernels for one kind of processor.

    Attributes:
        name: of the library.
        place: of its sources, below this folder.
        instructions: that they are made of, as torch names them.
        unless: instructions with which torch is as fast without them.
        flags: what the compiler is told besides the sources; part of the library's name, as they are.
    """

    name: str
    place: str
    instructions: tuple[str, ...]
    unless: str
    flags: tuple[str, ...]

    def folder(self) -> Path:
        """Where the sources lie."""
        return HERE / self.place

    def sources(self) -> list[Path]:
        """Files to compile."""
        return sorted(self.folder().glob("*.cpp"))

    def built(self) -> Path:
        """Where the library of these very sources lies once it is built; one of others is never loaded."""
        told = hashlib.sha256(" ".join(self.flags).encode())
        for file in (*self.sources(), *sorted(HERE.rglob("*.h"))):
            told.update(file.read_bytes())
        return HERE / "build" / f"{self.name}-{told.hexdigest()[:16]}.so"

    def able(self) -> bool:
        """Whether this processor has the instructions."""
        told = torch.cpu.get_capabilities()
        return all(told.get(name, False) for name in self.instructions)

    def pays(self) -> bool:
        """Whether it has them, and torch nothing faster."""
        return self.able() and not torch.cpu.get_capabilities().get(self.unless, False)

    def load(self) -> ctypes.CDLL | None:
        """The library, or ``None`` where it was not built, is switched off, or does not pay."""
        wanted = os.environ.get(SWITCH, "").lower() != "off" and self.pays()
        return ctypes.CDLL(str(file)) if wanted and (file := self.built()).exists() else None


_OPTIMISED = ("-O3", "-std=c++17", "-shared", "-fPIC")
#: Steps and scores with products in bfloat16. With AMX, torch's own are twice as fast as what AVX-512 can do.
NARROW = Kind(
    "kernels",
    "",
    ("avx512_bf16", "avx512_vbmi2"),
    unless="amx_bf16",
    flags=(
        *_OPTIMISED,
        *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "bf16", "vbmi2")),
        "-mfma",
    ),
)
#: Scores with products in float32. With AVX-512, torch's own are twice as fast as what AVX2 can do.
WIDE = Kind("wide", "wide", ("avx2", "fma3"), unless="avx512_f", flags=(*_OPTIMISED, "-mavx2", "-mfma"))
KINDS = (NARROW, WIDE)
#: Set to ``off``, a process runs without them.
SWITCH = "FUNNELCAST_KERNELS"

_READ = (torch.float32, torch.bfloat16)
#: What a kernel is told: numbers; tensors in one piece, by where they begin; and arrays of either.
Told: TypeAlias = int | float | Tensor | Sequence[int] | Sequence[Tensor | None] | None


@cache
def kernels() -> ctypes.CDLL | None:
    """The library of ``NARROW``, if this process uses it."""
    return NARROW.load()


@cache
def wide_kernels() -> ctypes.CDLL | None:
    """The library of ``WIDE``, if this process uses it."""
    return WIDE.load()


def multiply(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernels make products of this dtype on this device."""
    return dtype == torch.bfloat16 and device.type == "cpu" and kernels() is not None


def multiply_wide(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernels make products of this dtype on this device, for scores alone."""
    return dtype == torch.float32 and device.type == "cpu" and wide_kernels() is not None


def read(*told: Tensor) -> bool:
    """Whether the kernels can read these tensors, of float32 or bfloat16, as they lie."""
    plain = all(one.dtype in _READ and one.device.type == "cpu" and one.is_contiguous() for one in told)
    return plain and kernels() is not None


def call(name: str, *told: Told, wide: bool = False) -> None:
    """Call a kernel, which lets other threads run meanwhile.

    Args:
        name: of the kernel.
        told: its arguments, in the order of its source.
        wide: of ``WIDE``.

    Raises:
        MemoryError: it got none for its intermediate results; what it writes is not to be read.
        IndexError: a row is none of the table's; nothing was changed.
    """
    library = wide_kernels() if wide else kernels()
    assert library is not None  # noqa: S101 - ``multiply``, ``multiply_wide`` or ``read`` was asked
    match getattr(library, name)(*(_argument(one) for one in told)):
        case 1:
            raise MemoryError(f"The kernel {name} got no memory for its intermediate results.")
        case 2:
            raise IndexError(f"The kernel {name} was told a row that is none of the table's.")


def _argument(told: Told) -> object:
    if isinstance(told, int):
        return ctypes.c_int64(told)
    if isinstance(told, float):
        return ctypes.c_double(told)
    if told is None:
        return ctypes.c_void_p(None)
    if isinstance(told, Tensor):
        return ctypes.c_void_p(told.data_ptr())
    if told and isinstance(told[0], int):
        return (ctypes.c_int64 * len(told))(*cast(Sequence[int], told))
    tensors = cast(Sequence[Tensor | None], told)
    return (ctypes.c_void_p * len(tensors))(*(None if one is None else one.data_ptr() for one in tensors))
