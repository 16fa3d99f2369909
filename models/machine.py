"""What of the machine a line runs on: device, threads, memory pages, and the products that it is fast in.

A recipe knows nothing of it. The program asks here, once, before the first line is made.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Literal, get_args

import torch

Products = Literal["float32", "bfloat16"]
PRODUCTS = get_args(Products)

#: Read by torch's allocator with its first tensor. Rows of a large table lie all over it, and a page of 2 MiB
#: is found in one step where 512 pages of 4 KiB miss the processor's page table (Linux; elsewhere no effect).
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"

#: A product of 0.27 GFLOP, so some milliseconds, and how much less of them bfloat16 must take to be chosen.
_SIDE, _TIMES, _CLEARLY = 512, 5, 1.2


def prepare() -> torch.device:
    """Set up this process and say where lines belong; to be called before tensors are made.

    One thread: batches are small, a second one would mostly wait, and the bytes must not depend on how many
    there are. A setting of the user's for huge pages is left alone.
    """
    torch.set_num_threads(1)
    os.environ.setdefault(_HUGE_PAGES, "1")
    return default_device()


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
