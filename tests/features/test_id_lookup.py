"""Looking up ids against a dict."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from features.encodings import FIRST, UNKNOWN
from features.id_lookup import IdLookup

EDGES = [-(2**63), 2**63 - 1, 0, -1]


def agrees(known: list[int] | list[str], asked: list[int | None] | list[str | None]) -> None:
    kind = pl.String() if known and isinstance(known[0], str) else pl.Int64()
    rows = list(range(FIRST, FIRST + len(known)))[::-1]
    lookup = IdLookup(pl.Series(known, dtype=kind), pl.Series(rows, dtype=pl.Int32))
    owners = dict(zip(known, rows, strict=True))
    expected = [owners.get(one, UNKNOWN) for one in asked]  # type: ignore[call-overload]
    found = lookup.find(pl.Series(asked, dtype=kind))
    assert found.dtype == np.int32
    assert found.tolist() == expected


@pytest.mark.parametrize("spread", [3, 10**6, 2**61])
def test_integers_find_their_row_dense_or_sparse_and_up_to_the_ends_of_64_bits(spread: int) -> None:
    rng = np.random.default_rng(spread)
    known = sorted({int(x) for x in rng.integers(-spread, spread, 500)})
    asked = [*known, *rng.integers(-2 * spread, 2 * spread, 500).tolist(), *EDGES, None]
    agrees(known, rng.permutation(np.array(asked, dtype=object)).tolist())


@pytest.mark.parametrize("known", [EDGES, [2**63 - 1], [2**63 - 1, 2**63 - 2], [-(2**63)], [1 - 2**63], []])
def test_the_greatest_and_least_integers_are_ids_like_others(known: list[int]) -> None:
    agrees(known, [*EDGES, 5, None])


def test_texts_find_their_row() -> None:
    agrees(["a", "", "Ä"], ["Ä", "b", None, "", "a"])


def test_a_narrow_type_is_looked_up_as_the_same_number() -> None:
    lookup = IdLookup(pl.Series([7, 300]), pl.Series([2, 3], dtype=pl.Int32))
    assert lookup.find(pl.Series([7, 44], dtype=pl.UInt8)).tolist() == [2, UNKNOWN]
