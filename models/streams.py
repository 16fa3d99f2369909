"""Streams of random numbers of a line: each part draws from its own."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, part: str) -> torch.Generator:
    """A stream that follows from the seed and the name of the part alone, on the processor."""
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))
