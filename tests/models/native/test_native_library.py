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

#: Of every kind what a processor has that it pays on.
ABLE = {
    library.NARROW: {"avx512_bf16": True, "avx512_vbmi2": True, "amx_bf16": False},
    library.WIDE: {"avx2": True, "fma3": True, "avx512_f": False},
}


@pytest.fixture(params=library.KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> library.Kind:
    return request.param


@pytest.fixture
def asked(kind: library.Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What would be loaded, on a processor that can, where a library lies."""
    loaded: list[str] = []
    monkeypatch.setattr(library, "HERE", tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: loaded.append(name) or name)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ABLE[kind])
    monkeypatch.setenv(library.SWITCH, "")
    kind.folder().mkdir(exist_ok=True)
    (kind.folder() / "some.cpp").write_text("int some() { return 0; }")
    kind.built().parent.mkdir()
    kind.built().touch()
    return loaded


def now() -> list[Any]:
    """What is loaded of every kind."""
    return [load.__wrapped__() for load in (library.kernels, library.wide_kernels)]


def test_they_are_used_where_they_are_built(kind: library.Kind, asked: list[str]) -> None:
    assert now() == [str(one.built()) if one is kind else None for one in library.KINDS]
    assert asked == [str(kind.built())]


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_a_switch_turns_them_off(asked: list[str], monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(library.SWITCH, word)
    assert now() == [None, None]
    assert not asked


def test_they_are_not_used_where_they_do_not_pay(
    kind: library.Kind, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    able = ABLE[kind]
    lacking = [able | {name: False} for name in kind.instructions]
    for has in ({}, *lacking, able | {kind.unless: True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert now() == [None, None]
    assert not asked


@pytest.mark.parametrize("file", ["some.cpp", "other.h"])
def test_a_library_of_other_sources_is_not_loaded(kind: library.Kind, asked: list[str], file: str) -> None:
    (kind.folder() / file).write_text("// changed")
    assert now() == [None, None]
    assert not asked


def test_numbers_of_other_types_are_torchs_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "kernels", lambda: object())
    device = torch.device("cpu")
    assert library.multiply(torch.bfloat16, device)
    assert not library.multiply(torch.float32, device)
    assert not library.multiply(torch.bfloat16, torch.device("cuda"))
    monkeypatch.setattr(library, "wide_kernels", lambda: object())
    assert library.multiply_wide(torch.float32, device)
    assert not library.multiply_wide(torch.float64, device)
    assert not library.multiply_wide(torch.float32, torch.device("cuda"))
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


def test_no_compiler_is_told_with_its_remedy(
    kind: library.Kind, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    kind.built().unlink()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match=r"No C\+\+ compiler \(no-such-compiler\); install one"):
        build.main()
    assert not kind.built().exists()


def test_a_compiler_that_fails_leaves_nothing(
    kind: library.Kind, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    kind.built().unlink()
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(SystemExit, match="compiler failed"):
        build.main()
    assert not list(kind.built().parent.iterdir())


def test_a_processor_that_would_not_use_them_is_told_what_they_want(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(SystemExit, match="avx512_bf16 and avx512_vbmi2 without amx_bf16, or avx2 and fma3"):
        build.main()


def test_old_libraries_of_the_kind_are_removed(
    kind: library.Kind,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del asked
    old, other = (kind.built().with_name(f"{name}-0123.so") for name in (kind.name, "another"))
    old.touch()
    other.touch()
    monkeypatch.setenv(library.SWITCH, "off")
    build.main()
    assert not old.exists()
    assert other.exists()
    assert kind.built().exists()
    assert library.SWITCH in capsys.readouterr().out


def test_the_sources_are_part_of_the_package() -> None:
    names = {"finite.cpp", "gates.cpp", "mixtures.cpp", "networks.cpp", "rows.cpp"}
    assert {file.name for file in library.NARROW.sources()} == names
    assert {file.name for file in library.WIDE.sources()} == {"networks.cpp"}


def test_nothing_loads_a_compiler_for_it() -> None:
    code = "import sys, models.line; sys.exit('models.native.build' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
