"""The kernels, compiled for these tests alone: all others run without them, built or not."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.line import Line
from models.native import library
from models.native.build import build
from models.pairs import Pairs, Share, Shares

#: Where the processor lacks the instructions, they are written out: the same sources, much slower.
_INSTEAD = Path(__file__).parent / "emulated"
_EMULATED = ("-O1", "-std=c++17", "-shared", "-fPIC", "-Wno-psabi", f"-I{_INSTEAD}")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("the kernels want a C++ compiler")
    flags = library.NARROW.flags if library.NARROW.able() else _EMULATED
    build(to := tmp_path_factory.mktemp("native") / "kernels.so", flags)
    return ctypes.CDLL(str(to))


@pytest.fixture(scope="session")
def compiled_wide(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which(os.environ.get("CXX", "c++")) is None or not library.WIDE.able():
        pytest.skip("the kernels in float32 want a C++ compiler, and AVX2")
    build(to := tmp_path_factory.mktemp("native") / "wide.so", kind=library.WIDE)
    return ctypes.CDLL(str(to))


def _using(name: str, compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def use(yes: bool) -> None:
        monkeypatch.setattr(library, name, lambda: compiled if yes else None)

    use(True)
    return use


@pytest.fixture
def use_wide(compiled_wide: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """As ``use_kernels``, of those in float32."""
    return _using("wide_kernels", compiled_wide, monkeypatch)


@pytest.fixture
def use_kernels(compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """``use_kernels(True)``: from here on in this test they do what they can; ``False``: torch does."""
    return _using("kernels", compiled, monkeypatch)


@pytest.fixture
def score_pairs() -> Callable[[Line], dict[str, np.ndarray]]:
    """A line's scores of always the same pairs: five users with all of seventy items, and some listed."""
    shares = Shares(Share((0,), (0,), (0,)), Share((1, 2), (1,), (1,)))
    rng = np.random.default_rng(0)

    def inputs(count: int, fields: int, bag: int) -> dict[str, np.ndarray]:
        return {
            "rows": rng.integers(1, 50, (count, fields)),
            "bag_rows": rng.integers(0, 50, (count, bag)),
            "dense": rng.standard_normal((count, 1)).astype(np.float32),
        }

    users, items = inputs(5, 1, 4), inputs(70, 2, 2)
    user_B, item_B = rng.integers(0, 5, 333), rng.integers(0, 70, 333)

    def scores(line: Line) -> dict[str, np.ndarray]:
        pairs = Pairs(line, shares, items)
        listed = pairs.chosen(users, user_B, item_B)
        return pairs.grid(users) | {f"{name}, listed": score for name, score in listed.items()}

    return scores
