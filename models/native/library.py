"""The compiled kernels, where somebody has built them and the processor has the instructions.

They are an extra: without them every line runs on torch alone, to the same results but for rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import torch
from torch import Tensor

HERE = Path(__file__).parent
#: The instructions that the kernels are made of, beside those of AVX-512 that come with any of these.
INSTRUCTIONS = ("avx512_bf16", "avx512_vbmi2")
#: What the compiler is told besides the sources; part of the library's name, as they are.
FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fPIC"),
    *(f"-m{has}" for has in ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma")),
    *(f"-m{has.replace('_', '')}" for has in INSTRUCTIONS),
)
#: Set to ``off``, a process runs without them.
SWITCH = "FUNNELCAST_KERNELS"

_READ = (torch.float32, torch.bfloat16)
#: What a kernel is told: numbers; tensors in one piece, by where they begin; and arrays of either.
Told: TypeAlias = int | float | Tensor | Sequence[int] | Sequence[Tensor | None] | None


def sources() -> list[Path]:
    """Files to compile."""
    return sorted(HERE.glob("*.cpp"))


def built() -> Path:
    """Where the library of these very sources lies once it is built; one of other sources is never loaded."""
    told = hashlib.sha256(" ".join(FLAGS).encode())
    for file in (*sources(), *sorted(HERE.glob("*.h"))):
        told.update(file.read_bytes())
    return HERE / "build" / f"kernels-{told.hexdigest()[:16]}.so"


def able() -> bool:
    """Whether this processor has the instructions."""
    told = torch.cpu.get_capabilities()
    return all(told.get(name, False) for name in INSTRUCTIONS)


def pays() -> bool:
    """Whether this processor has the instructions, and torch nothing faster.

    With AMX, torch's own products are twice as fast as what AVX-512 can do.
    """
    return able() and not torch.cpu.get_capabilities().get("amx_bf16", False)


@cache
def kernels() -> ctypes.CDLL | None:
    """The library, or ``None`` where it was not built, is switched off, or does not pay."""
    wanted = os.environ.get(SWITCH, "").lower() != "off" and pays()
    return ctypes.CDLL(str(file)) if wanted and (file := built()).exists() else None


def multiply(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernels make products of this dtype on this device."""
    return dtype == torch.bfloat16 and device.type == "cpu" and kernels() is not None


def read(*told: Tensor) -> bool:
    """Whether the kernels can read these tensors, of float32 or bfloat16, as they lie."""
    plain = all(one.dtype in _READ and one.device.type == "cpu" and one.is_contiguous() for one in told)
    return plain and kernels() is not None


def call(name: str, *told: Told) -> None:
    """Call a kernel, which lets other threads run meanwhile.

    Args:
        name: of the kernel.
        told: its arguments, in the order of its source.

    Raises:
        MemoryError: it got none for its intermediate results; what it writes is not to be read.
        IndexError: a row is none of the table's; nothing was changed.
    """
    library = kernels()
    assert library is not None  # noqa: S101 - ``multiply`` or ``read`` was asked
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
