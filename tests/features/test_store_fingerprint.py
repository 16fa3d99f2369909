"""Fingerprints decide what is done again: equal things agree, different things differ."""

from __future__ import annotations

import doctest
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.fingerprint
import features.tables
from features.fingerprint import canonical, file_sha256, fingerprint

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Clock:
    window: timedelta
    start: date


@dataclass(frozen=True)
class OtherClock:
    window: timedelta
    start: date


@dataclass
class Mutable:
    a: int


class Kind(Enum):
    BINARY = "binary"


def test_a_fingerprint_is_the_hash_of_its_canonical_text() -> None:
    text = '{"a":[1,null,true,"é"],"b":{"date":"2026-01-02"}}'
    assert canonical({"b": date(2026, 1, 2), "a": (1, None, True, "é")}) == text
    assert (
        fingerprint({"b": date(2026, 1, 2), "a": [1, None, True, "é"]})
        == hashlib.sha256(text.encode()).hexdigest()[:16]
    )


def test_things_that_mean_something_else_differ() -> None:
    window, start = timedelta(days=1), date(2026, 1, 2)
    things = [
        date(2026, 1, 2),
        datetime(2026, 1, 2),
        "2026-01-02",
        timedelta(seconds=1),
        timedelta(microseconds=1),
        1,
        1.0,
        True,
        "1",
        None,
        Path("a/b"),
        "a/b",
        {1, 2},
        [1, 2],
        Kind.BINARY,
        "binary",
        Clock(window, start),
        OtherClock(window, start),
        Clock(window, date(2026, 1, 3)),
        {"window": window, "start": start},
    ]
    assert len({fingerprint(thing) for thing in things}) == len(things)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=3), PLAIN, max_size=4))
def test_the_order_of_keys_does_not_matter(mapping: Mapping[str, object]) -> None:
    assert fingerprint(mapping) == fingerprint(dict(reversed(mapping.items())))


@pytest.mark.parametrize("unknown", [object(), b"x", {1: 2}, {Kind.BINARY: 1}, Mutable(1), Clock, len, 1j])
def test_what_has_no_canonical_text_is_refused(unknown: object) -> None:
    with pytest.raises(TypeError):
        fingerprint([unknown])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        fingerprint(value)


def test_a_file_hash_covers_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "x"
    content = bytes(range(256)) * 9_000  # more than two pieces
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("module", [features.fingerprint, features.tables])
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed
