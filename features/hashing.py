"""Our own hash of ids: the same numbers in every process, on every platform, in every version.

Library hashes change between versions and processes, and a changed hash moves every id to another row.
So these are written out, over whole columns at once:

- an integer x: splitmix64(x XOR splitmix64(seed)), x as 64 bits in two's complement, where splitmix64(s) is
  the first output of the generator of that name from the state s (Steele, Lea, Flood, Fast Splittable
  Pseudorandom Number Generators, OOPSLA 2014; Vigna's splitmix64.c);
- a string: XXH64 of its UTF-8 bytes with the seed (xxHash, specification 0.2.0, by Collet);
- a cross of a, b, ...: h = hash(a), then h = splitmix64(splitmix64(h) XOR hash(b)), and so on.

Shapes: N values, L bytes of each.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

U64 = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)


def hash_ids(values: pl.Series, seed: int = 0) -> U64:
    """Hash of every value, (N,) uint64; what stands at a null is of no meaning.

    Args:
        values: integers of any width, or strings.
        seed: 0 to 2**64 - 1.

    Raises:
        TypeError: other values; a float cannot tell large ids apart.
    """
    if values.dtype == pl.String:
        return _hash_strings(values, seed)
    if not values.dtype.is_integer():
        raise TypeError(f"Column {values.name!r} is {values.dtype}; ids are integers or strings.")
    wide = pl.UInt64() if values.dtype.is_unsigned_integer() else pl.Int64()
    # null is filled first: numpy has no null for integers, and would make floats of them all
    bits: U64 = values.fill_null(0).cast(wide).to_numpy().view(np.uint64)
    return splitmix64(bits ^ splitmix64(np.array([seed], dtype=np.uint64)))


def cross(first: U64, second: U64) -> U64:
    """Hash of a pair from the hashes of its parts; the order of the parts matters."""
    return splitmix64(splitmix64(first) ^ second)


def splitmix64(state: U64) -> U64:
    """The generator's first output from each state; a bijection on 64 bits."""
    z = state + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def xxh64(bytes_NL: np.ndarray, seed: int = 0) -> U64:
    """XXH64 of N byte strings of equal length, shape (N, L) uint8."""
    count, length = bytes_NL.shape
    if length >= 32:
        h, read = _stripes(bytes_NL, seed)
    else:
        h, read = np.full(count, (seed + _P5) & _MASK, dtype=np.uint64), 0
    h = h + np.uint64(length)
    while read + 8 <= length:
        h = _rotate(h ^ _round(np.uint64(0), _words(bytes_NL, read, "<u8")), 27)
        h = h * np.uint64(_P1) + np.uint64(_P4)
        read += 8
    if read + 4 <= length:
        h = _rotate(h ^ (_words(bytes_NL, read, "<u4") * np.uint64(_P1)), 23)
        h = h * np.uint64(_P2) + np.uint64(_P3)
        read += 4
    for place in range(read, length):
        h = _rotate(h ^ (bytes_NL[:, place].astype(np.uint64) * np.uint64(_P5)), 11) * np.uint64(_P1)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(_P2)
    h = (h ^ (h >> np.uint64(29))) * np.uint64(_P3)
    return h ^ (h >> np.uint64(32))


def _stripes(bytes_NL: np.ndarray, seed: int) -> tuple[U64, int]:
    """Four lanes over the whole stripes of 32 bytes, merged; also how many bytes these were."""
    start = [seed + _P1 + _P2, seed + _P2, seed, seed - _P1]
    lanes: list[U64] = [np.full(len(bytes_NL), lane & _MASK, dtype=np.uint64) for lane in start]
    whole = bytes_NL.shape[1] // 32 * 32
    for read in range(0, whole, 32):
        lanes = [_round(lane, _words(bytes_NL, read + 8 * i, "<u8")) for i, lane in enumerate(lanes)]
    h: U64 = np.zeros(len(bytes_NL), dtype=np.uint64)
    for lane, turn in zip(lanes, (1, 7, 12, 18), strict=True):
        h = h + _rotate(lane, turn)
    for lane in lanes:
        h = (h ^ _round(np.uint64(0), lane)) * np.uint64(_P1) + np.uint64(_P4)
    return h, whole


def _round(lane: U64 | np.uint64, word: U64) -> U64:
    return _rotate(lane + word * np.uint64(_P2), 31) * np.uint64(_P1)


def _rotate(x: U64, bits: int) -> U64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


def _words(bytes_NL: np.ndarray, start: int, little_endian: str) -> U64:
    """The word at byte ``start`` of every row."""
    width = np.dtype(little_endian).itemsize
    word = np.ascontiguousarray(bytes_NL[:, start : start + width]).view(little_endian)
    return word[:, 0].astype(np.uint64)


def _hash_strings(values: pl.Series, seed: int) -> U64:
    """Each distinct string once, all strings of one length together."""
    encoded = values.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    distinct: pa.LargeStringArray = encoded.dictionary
    _, places, text = distinct.buffers()
    if text is None or len(distinct) == 0:  # nothing but null and the empty string
        return np.repeat(xxh64(np.empty((1, 0), dtype=np.uint8), seed), len(values))
    offsets = np.frombuffer(places, dtype=np.int64)[distinct.offset : distinct.offset + len(distinct) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    data = np.frombuffer(text, dtype=np.uint8)
    hashes = np.empty(len(distinct), dtype=np.uint64)
    for length in np.unique(lengths):
        equal = np.flatnonzero(lengths == length)
        hashes[equal] = xxh64(data[starts[equal][:, np.newaxis] + np.arange(length)], seed)
    taken: U64 = hashes[encoded.indices.fill_null(0).to_numpy()]
    return taken
