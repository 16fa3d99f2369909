"""The hash of ids against published vectors, python-xxhash, and arithmetic on plain integers."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.hashing import cross, hash_ids, splitmix64, xxh64

PRIME32 = 2654435761
MASK = 2**64 - 1
#: Outputs of splitmix64 from the seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64").
SPLITMIX = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)
#: The first output from the seed 0.
SPLITMIX_0 = 0xE220A8397B1DCDAF


def plain_splitmix64(state: int) -> int:
    """Vigna's splitmix64.c, one step, on Python's unbounded integers."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def sanity_bytes(length: int) -> np.ndarray:
    """The buffer of xxHash's own sanity test."""
    state, out = PRIME32, bytearray()
    for _ in range(length):
        out.append(state >> 56)
        state = state * 11400714785074694797 & MASK
    return np.frombuffer(bytes(out), dtype=np.uint8).reshape(1, length)


def test_splitmix64_gives_the_published_outputs() -> None:
    states = [(1234567 + n * 0x9E3779B97F4A7C15) & MASK for n in range(5)]
    assert splitmix64(np.array(states, dtype=np.uint64)).tolist() == list(SPLITMIX)
    assert splitmix64(np.array([0], dtype=np.uint64)).tolist() == [SPLITMIX_0]


@pytest.mark.parametrize(
    ("length", "seed", "expected"),
    [
        (0, 0, 0xEF46DB3751D8E999),
        (0, PRIME32, 0xAC75FDA2929B17EF),
        (1, 0, 0xE934A84ADB052768),
        (1, PRIME32, 0x5014607643A9B4C3),
        (4, 0, 0x9136A0DCA57457EE),
        (14, 0, 0x8282DCC4994E35C8),
        (14, PRIME32, 0xC3BD6BF63DEB6DF0),
        (222, 0, 0xB641AE8CB691C174),
        (222, PRIME32, 0x20CB8AB7AE10C14A),
    ],
)
def test_xxh64_passes_the_sanity_test_of_its_authors(length: int, seed: int, expected: int) -> None:
    assert xxh64(sanity_bytes(length), seed).tolist() == [expected]


#: XXH64 by python-xxhash 4.1.0 (xxHash 0.8.4).
PYTHON_XXHASH = {
    "": (0xEF46DB3751D8E999, 0xAC75FDA2929B17EF),
    "user-1": (0xA173746B114C6BE8, 0x20D3FE10CD1D0483),
    "item_9223372036854775807": (0x9E2666CEAD266570, 0x2F98D74E070ED681),
    "日本語": (0x7179A19F3719F5E1, 0xE77F139948B21006),
    "0123456789abcdef0123456789abcdef": (0x642A94958E71E6C5, 0xDFAD85CCF8285222),
}


@pytest.mark.parametrize(("place", "seed"), [(0, 0), (1, PRIME32)])
def test_strings_hash_by_their_utf_8_bytes_also_beside_nulls_repeats_and_in_slices(
    place: int, seed: int
) -> None:
    texts = [*PYTHON_XXHASH, None, *reversed(PYTHON_XXHASH)]
    found = hash_ids(pl.Series(["before", *texts, "after"])[1:-1], seed).tolist()
    told = [hashed if text is not None else None for text, hashed in zip(texts, found, strict=True)]
    assert told == [None if text is None else PYTHON_XXHASH[text][place] for text in texts]


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, "85aa61fa8a871a83fb90b272a4d225ca399df1748b758919c90b0286f2544cdb"),
        (PRIME32, "3b08975998ab1c6e88ddd6d3960ea1a7c1986659fcc7b7d25853cd2fe2c53fad"),
        (2**64 - 1, "d99600890100a3b8e0b865ddd14de8f313ccbfc2f55241401021196b063e50ee"),
    ],
)
def test_every_length_up_to_four_stripes_and_more_hashes_as_python_xxhash_does(
    seed: int, expected: str
) -> None:
    """The digest of 201 hashes, made with python-xxhash 4.1.0: ``sha256`` over their little-endian bytes."""
    text = ("Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. " * 4)[:200]
    hashes = hash_ids(pl.Series([text[:n] for n in range(len(text) + 1)]), seed)
    assert hashlib.sha256(hashes.astype("<u8").tobytes()).hexdigest() == expected


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    seed=st.sampled_from([0, 1, 2**63, 2**64 - 1]),
)
def test_integers_hash_as_plain_integers_do(values: list[int | None], seed: int) -> None:
    found = hash_ids(pl.Series(values, dtype=pl.Int64), seed).tolist()
    for value, hashed in zip(values, found, strict=True):
        if value is not None:
            assert hashed == plain_splitmix64((value & MASK) ^ plain_splitmix64(seed))


def test_an_integer_under_seed_0_has_a_published_hash() -> None:
    state = 1234567 ^ SPLITMIX_0
    assert hash_ids(pl.Series([state], dtype=pl.UInt64)).tolist() == [SPLITMIX[0]]
    assert hash_ids(pl.Series([state - 2**64], dtype=pl.Int64)).tolist() == [SPLITMIX[0]]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt32, pl.UInt64])
def test_the_width_of_an_integer_does_not_matter(dtype: pl.DataType) -> None:
    assert hash_ids(pl.Series([0, 7, 127], dtype=dtype)).tolist() == [
        plain_splitmix64(value ^ SPLITMIX_0) for value in (0, 7, 127)
    ]


def test_ids_that_are_equal_as_doubles_hash_apart_also_beside_a_null() -> None:
    ids = [2**53, 2**53 + 1, None, 2**63 - 1, 2**63 - 2]
    hashes = hash_ids(pl.Series(ids, dtype=pl.Int64))
    assert len(set(np.delete(hashes, 2).tolist())) == 4


def test_a_float_is_not_an_id() -> None:
    with pytest.raises(TypeError, match="'price' is Float64"):
        hash_ids(pl.Series("price", [1.0]))


def test_a_cross_knows_the_order_of_its_parts_and_follows_its_equation() -> None:
    a, b = hash_ids(pl.Series([1, 2])), hash_ids(pl.Series(["x", "y"]))
    assert cross(a, b).tolist() == [
        plain_splitmix64(plain_splitmix64(one) ^ two) for one, two in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert not np.any(cross(a, b) == cross(b, a))
    assert len(set(cross(np.repeat(a, 2), np.tile(b, 2)).tolist())) == 4


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String])
def test_no_value_and_only_null_give_as_many_hashes(dtype: pl.DataType) -> None:
    assert hash_ids(pl.Series([], dtype=dtype)).shape == (0,)
    assert hash_ids(pl.Series([None, None], dtype=dtype)).shape == (2,)


def test_another_process_with_another_hash_seed_gives_the_same() -> None:
    program = (
        "import polars as pl; from features.hashing import hash_ids as h; print(h(pl.Series(['a', 'é'])))"
    )
    run = [sys.executable, "-W", "error", "-c", program]
    told = {
        subprocess.run(run, env={"PYTHONHASHSEED": n}, check=True, capture_output=True, text=True).stdout
        for n in ("1", "2")
    }
    assert told == {f"{hash_ids(pl.Series(['a', 'é']))}\n"}


def test_buckets_fill_evenly() -> None:
    """Chi-squared over 64 buckets: mean 63, standard deviation 11; six of them is never by chance."""
    for values in (pl.Series(range(64_000)), pl.Series(range(0, 64_000 * 64, 64)).cast(pl.String)):
        counts = np.bincount((hash_ids(values) % np.uint64(64)).astype(np.int64), minlength=64)
        assert ((counts - 1000.0) ** 2 / 1000).sum() < 63 + 6 * 11.2
