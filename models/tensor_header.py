"""The header of a safetensors file, judged before a byte is allocated for any tensor.

The format (safetensors, "Format"): an unsigned little-endian 64-bit number N, N bytes of JSON, then the bytes
of the tensors. The JSON tells of each name its ``dtype``, ``shape`` and ``data_offsets`` [begin, end) within
these bytes. The library refuses most of what is refused here; that a huge or lying header never reaches an
allocation is not left to it.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

MOST_HEADER_BYTES = 16 << 20
_LENGTH = 8
_MOST_AXES = 16
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


class BrokenHeader(ValueError):
    """The header does not describe the file that it stands in."""


def shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor, after the whole file is accounted for by the header.

    Args:
        path: a safetensors file.

    Raises:
        BrokenHeader: the header is too long, no JSON, names a tensor twice or with an unknown type, an
            impossible shape, or offsets that overlap, leave a hole, or end elsewhere than the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if size < _LENGTH or length > min(MOST_HEADER_BYTES, size - _LENGTH):
            raise BrokenHeader(f"{path}: a header of {length} bytes in a file of {size}.")
        text = file.read(length)
    try:
        told = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BrokenHeader(f"{path}: the header is no JSON object of distinct names ({error}).") from None
    if not isinstance(told, dict):
        raise BrokenHeader(f"{path}: the header is no JSON object.")
    told.pop("__metadata__", None)
    found = {name: _tensor(path, name, entry) for name, entry in told.items()}
    place = 0
    for name, (begin, end, _, _) in sorted(found.items(), key=lambda item: item[1][:2]):
        if begin != place:
            raise BrokenHeader(f"{path}: tensor {name!r} begins at {begin}, the one before ends at {place}.")
        place = end
    if place != size - _LENGTH - length:
        raise BrokenHeader(f"{path}: tensors end at {place} of {size - _LENGTH - length} bytes.")
    return {name: (dtype, shape) for name, (_, _, dtype, shape) in found.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _tensor(path: Path, name: str, entry: object) -> tuple[int, int, str, tuple[int, ...]]:
    """Begin, end, type and shape of one tensor."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BrokenHeader(f"{path}: tensor {name!r} is not told by dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise BrokenHeader(f"{path}: tensor {name!r} has the unknown type {dtype!r}.")
    if not _counts(shape) or len(shape) > _MOST_AXES or not _counts(offsets) or len(offsets) != 2:
        raise BrokenHeader(f"{path}: tensor {name!r} has shape {shape!r} at {offsets!r}.")
    if offsets[1] - offsets[0] != prod(shape) * _BYTES[dtype]:
        raise BrokenHeader(f"{path}: tensor {name!r} of {dtype} {shape!r} does not fill {offsets!r}.")
    return offsets[0], offsets[1], dtype, tuple(shape)


def _counts(value: object) -> bool:
    """Whether it is a list of whole numbers from 0; ``true`` is none."""
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
