"""What of the machine a line runs on: device, threads, memory pages, and the products that it is fast in.

A recipe knows nothing of it. The program asks here, once, before the first line is made.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

import torch

Products = Literal["float32", "bfloat16"]
PRODUCTS = get_args(Products)

#: Read by torch's allocator with its first tensor. Rows of a large table lie all over it, and a page of 2 MiB
#: is found in one step where 512 pages of 4 KiB miss the processor's page table (Linux; elsewhere no effect).
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


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
    """The dtype in which a device shall multiply: the wanted one, or float32 where that is not native.

    A processor without bfloat16 instructions emulates them, at a multiple of the time of float32.

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
    return any(told.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


_PROCESSOR = torch.device("cpu")
