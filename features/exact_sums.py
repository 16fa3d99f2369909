"""Exact sums of floats, as sums of integers.

A finite float is a whole multiple of a power of two, so it can be cut, without a remainder, into signed
digits of 32 bits. Digits of one place add up in integers, where no order of adding matters and taking away
undoes adding: a value of 1e16 that has left a window leaves a 1.0 beside it whole. The sum is rounded when
it becomes a float again, and follows from the multiset of the values alone.

Shapes: N values, P places, from the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64s: TypeAlias = npt.NDArray[np.int64]
Float64s: TypeAlias = npt.NDArray[np.float64]

_BITS = 32
_MANTISSA = 53


@dataclass(frozen=True)
class Digits:
    """Floats in base 2**32: the sum over p of ``places_PN[p] * 2.0 ** (32 * (lowest + p))``.

    Attributes:
        places_PN: signed digits; those of the sum of up to 2**30 values still fit.
        lowest: exponent of place 0.
    """

    places_PN: Int64s
    lowest: int


def digits(values_N: Float64s) -> Digits:
    """Cut finite floats into digits; there are no more places than the values use."""
    used = np.abs(values_N[values_N != 0])
    if not len(used):
        return Digits(np.zeros((1, len(values_N)), np.int64), 0)
    least, most = (int(np.frexp(edge)[1]) for edge in (used.min(), used.max()))
    lowest, highest = (least - _MANTISSA) // _BITS, (most - 1) // _BITS
    places = np.empty((highest - lowest + 1, len(values_N)), np.int64)
    rest = values_N
    for place in range(highest, lowest - 1, -1):
        # Exact, all three: scaling by a power of two, cutting, taking away the leading bits.
        digit = np.trunc(np.ldexp(rest, -_BITS * place))
        rest = rest - np.ldexp(digit, _BITS * place)
        places[place - lowest] = digit.astype(np.int64)
    return Digits(places, lowest)


def floats(sums: Digits) -> Float64s:
    """The floats next to sums of digits, at most one unit in the last place away, shape (N,)."""
    positive = _carried(sums.places_PN)
    negative = positive[-1] < 0
    # Of a negative sum the magnitude is written out, so that what follows adds terms of one sign.
    positive[:, negative] = _carried(-sums.places_PN[:, negative])
    total = np.zeros(sums.places_PN.shape[1])
    for place, digit in enumerate(positive):
        total += np.ldexp(digit.astype(np.float64), _BITS * (sums.lowest + place))
    return np.where(negative, -total, total)


def _carried(places_PN: Int64s) -> Int64s:
    """The same sums with every digit in [0, 2**32) and two more places; below zero the last one is -1."""
    out = np.empty((len(places_PN) + 2, places_PN.shape[1]), np.int64)
    carry = np.zeros(places_PN.shape[1], np.int64)
    for place in range(len(out)):
        total = carry + (places_PN[place] if place < len(places_PN) else 0)
        carry = total >> _BITS
        out[place] = total - (carry << _BITS)
    out[-1] += carry << _BITS
    return out
