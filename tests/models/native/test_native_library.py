"""When the kernels are used, and when not; none of it needs a compiler."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from models.native import build, library

ABLE = {"avx512_bf16": True, "avx512_vbmi2": True, "amx_bf16": False}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What would be loaded, on a processor that can, where a library lies."""
    loaded: list[str] = []
    monkeypatch.setattr(library, "HERE", tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: loaded.append(name) or name)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ABLE)
    monkeypatch.setenv(library.SWITCH, "")
    (tmp_path / "some.cpp").write_text("int some() { return 0; }")
    library.built().parent.mkdir()
    library.built().touch()
    return loaded


def now() -> Any:
    return library.kernels.__wrapped__()


def test_they_are_used_where_they_are_built(asked: list[str]) -> None:
    assert now() == asked[0] == str(library.built())


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_a_switch_turns_them_off(asked: list[str], monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(library.SWITCH, word)
    assert now() is None
    assert not asked


@pytest.mark.parametrize(
    "has", [{}, {"avx512_bf16": True}, ABLE | {"avx512_bf16": False}, ABLE | {"amx_bf16": True}]
)
def test_they_are_not_used_where_they_do_not_pay(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, has: dict[str, bool]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert now() is None
    assert not asked


@pytest.mark.parametrize("file", ["some.cpp", "other.h"])
def test_a_library_of_other_sources_is_not_loaded(asked: list[str], tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("// changed")
    assert now() is None
    assert not asked


def test_numbers_of_other_types_are_torchs_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "kernels", lambda: object())
    device = torch.device("cpu")
    assert library.multiply(torch.bfloat16, device)
    assert not library.multiply(torch.float32, device)
    assert not library.multiply(torch.bfloat16, torch.device("cuda"))
    plain = torch.zeros(3, 2)
    assert library.read(plain)
    assert not library.read(plain, plain.double())
    assert not library.read(plain.T)


def test_a_kernel_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        @staticmethod
        def widen(*told: object) -> int:
            del told
            return 1

    monkeypatch.setattr(library, "kernels", Without)
    with pytest.raises(MemoryError, match="widen got no memory"):
        library.call("widen", 1)


def test_no_compiler_is_told_with_its_remedy(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    del asked
    library.built().unlink()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match=r"No C\+\+ compiler \(no-such-compiler\); install one"):
        build.main()
    assert not library.built().exists()


def test_a_compiler_that_fails_leaves_nothing(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    del asked
    library.built().unlink()
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(SystemExit, match="compiler failed"):
        build.main()
    assert not list(library.built().parent.iterdir())


def test_old_libraries_are_removed(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del asked
    old = library.built().with_name("kernels-0123.so")
    old.touch()
    monkeypatch.setattr(build, "kernels", lambda: None)
    build.main()
    assert not old.exists()
    assert library.built().exists()
    assert library.SWITCH in capsys.readouterr().out


def test_the_sources_are_part_of_the_package() -> None:
    names = {"finite.cpp", "gates.cpp", "mixtures.cpp", "networks.cpp", "rows.cpp"}
    assert {file.name for file in library.sources()} == names


def test_nothing_loads_a_compiler_for_it() -> None:
    code = "import sys, models.line; sys.exit('models.native.build' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
