"""What of the machine a line runs on: device, threads, allocator, and the products that it is fast in.

A recipe knows nothing of it. The program asks here, once, before the first line is made.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from functools import cache
from typing import Literal, get_args

import torch

Products = Literal["float32", "bfloat16"]
PRODUCTS = get_args(Products)

#: Parameters of ``mallopt`` with their values, and what a user sets them by. A step frees what the next one
#: asks for again: kept, it needs no new pages, which take up to a tenth of a step. What lies free at the end
#: of the heap is given back from 64 MiB on, a block at once from 32 MiB on.
_KEPT = {-1: 64 << 20, -3: 32 << 20}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")

#: A product of 0.27 GFLOP, so some milliseconds, and how much less of them bfloat16 must take to be chosen.
_SIDE, _TIMES, _CLEARLY = 512, 5, 1.2


def prepare() -> torch.device:
    """Set up this process and say where lines belong; to be called before tensors are made.

    One thread: batches are small, a second one would mostly wait, and the bytes must not depend on how many
    there are. The allocator keeps what a step frees for the next one, unless the user has settings for it.
    """
    torch.set_num_threads(1)
    if not any(name in os.environ for name in _USERS):
        _keep_freed_memory()
    return default_device()


def _keep_freed_memory() -> None:
    """Tell the allocator of glibc so; others have no such parameters."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in _KEPT.items():
            mallopt(parameter, value)


def default_device() -> torch.device:
    """The current GPU if there is one, else the processor."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else _PROCESSOR


def products_dtype(wanted: Products, device: torch.device) -> torch.dtype:
    """The dtype in which a device shall multiply: the wanted one, or float32 where that is faster.

    A processor without bfloat16 instructions emulates them, at a multiple of the time of float32. One that
    has them is asked by a product of each kind, once a process: with AVX-512 alone they can take longer, too.

    Raises:
        ValueError: another name.
    """
    if wanted not in PRODUCTS:
        raise ValueError(f"Products must be one of {PRODUCTS}, got {wanted!r}.")
    if wanted == "float32" or not _multiplies_bfloat16(device):
        return torch.float32
    return torch.bfloat16


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    told = torch.cpu.get_capabilities()
    return any(told.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16")) and _pays()


@cache
def _pays() -> bool:
    """Whether products in bfloat16 are faster here, by enough that no load of the machine could turn it."""
    wide, narrow = (_seconds(dtype) for dtype in (torch.float32, torch.bfloat16))
    return wide > _CLEARLY * narrow


def _seconds(dtype: torch.dtype) -> float:
    """CPU seconds of a product of the size of a layer; the least of some, which load disturbs least."""
    one = torch.ones(_SIDE, _SIDE, dtype=dtype)
    found = []
    for _ in range(_TIMES):
        begun = time.process_time()
        one @ one
        found.append(time.process_time() - begun)
    return min(found)


_PROCESSOR = torch.device("cpu")
