"""The kernels, compiled for these tests alone: all others run without them, built or not."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.native import library
from models.native.build import build

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


@pytest.fixture
def use_wide(compiled_wide: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """As ``use_kernels``, of those in float32."""

    def use(yes: bool) -> None:
        monkeypatch.setattr(library, "wide_kernels", lambda: compiled_wide if yes else None)

    use(True)
    return use


@pytest.fixture
def use_kernels(compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """``use_kernels(True)``: from here on in this test they do what they can; ``False``: torch does."""

    def use(yes: bool) -> None:
        monkeypatch.setattr(library, "kernels", lambda: compiled if yes else None)

    use(True)
    return use
