"""The kernels, compiled for these tests alone: all others run without them, built or not."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable

import pytest

from models.native import library
from models.native.build import build


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("the kernels want a C++ compiler")
    if not library.pays():
        pytest.skip("the kernels want AVX-512 with bfloat16, and no AMX")
    build(to := tmp_path_factory.mktemp("native") / "kernels.so")
    return ctypes.CDLL(str(to))


@pytest.fixture
def use_kernels(compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """``use_kernels(True)``: from here on in this test they do what they can; ``False``: torch does."""

    def use(yes: bool) -> None:
        monkeypatch.setattr(library, "kernels", lambda: compiled if yes else None)

    use(True)
    return use
