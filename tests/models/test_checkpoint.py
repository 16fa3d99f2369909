"""A checkpoint is whole or absent, and what is read is what was written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import MANIFEST, TENSORS, BrokenCheckpoint, fingerprint, load, save

LINEAGE = {"parent": None, "day": "2022-04-25", "inputs": {"samples": [3, 1.5]}, "name": "größe"}


@pytest.fixture
def state(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "b": torch.randn(3, 2, generator=generator),
        "a": torch.arange(4, dtype=torch.int32),
        "steps": torch.tensor(7),
        "turned": torch.randn(2, 3, generator=generator).T,
    }


def test_what_is_loaded_is_what_was_saved(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    loaded, lineage = load(tmp_path / "v1")
    assert lineage == LINEAGE
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert {name: t.dtype for name, t in loaded.items()} == {name: t.dtype for name, t in state.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


def test_equal_inputs_make_equal_bytes(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    save(tmp_path / "v2", dict(reversed(state.items())), dict(reversed(LINEAGE.items())))
    for name in (TENSORS, MANIFEST):
        assert (tmp_path / "v1" / name).read_bytes() == (tmp_path / "v2" / name).read_bytes()


def test_the_manifest_can_be_checked_without_our_code(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    content = json.loads((tmp_path / "v1" / MANIFEST).read_text(encoding="utf-8"))
    tensors = (tmp_path / "v1" / TENSORS).read_bytes()
    assert content["bytes"] == len(tensors)
    assert content["sha256"] == hashlib.sha256(tensors).hexdigest()
    assert str(tmp_path) not in json.dumps(content)


@pytest.mark.parametrize("name", [TENSORS, MANIFEST])
def test_a_flipped_bit_is_refused_wherever_it_is(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    path = tmp_path / "v1" / name
    original = path.read_bytes()
    for place in range(0, len(original), 3):
        path.write_bytes(original[:place] + bytes([original[place] ^ 1 << place % 8]) + original[place + 1 :])
        with pytest.raises(BrokenCheckpoint):
            load(tmp_path / "v1")
    path.write_bytes(original)
    load(tmp_path / "v1")


@pytest.mark.parametrize("name", [TENSORS, MANIFEST])
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, state: dict[str, Tensor], name: str, kept: int) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    path = tmp_path / "v1" / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BrokenCheckpoint):
        load(tmp_path / "v1")


@pytest.mark.parametrize("name", [TENSORS, MANIFEST])
def test_a_missing_file_is_no_checkpoint(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    (tmp_path / "v1" / name).unlink()
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        load(tmp_path / "v1")


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path / "v1", state, LINEAGE)
    assert list(tmp_path.iterdir()) == []


def test_saving_the_same_again_changes_nothing(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted((tmp_path / "v1").iterdir())]
    save(tmp_path / "v1", state, LINEAGE)
    assert before == [(p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted((tmp_path / "v1").iterdir())]
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


def test_another_checkpoint_of_the_same_name_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save(tmp_path / "v1", state, LINEAGE)
    with pytest.raises(FileExistsError, match="written once"):
        save(tmp_path / "v1", state, {**LINEAGE, "day": "2022-04-26"})
    assert load(tmp_path / "v1")[1] == LINEAGE


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    broken = state | {"b": torch.tensor([bad])}
    with pytest.raises(BrokenCheckpoint, match="not finite: b"):
        save(tmp_path / "v1", broken, LINEAGE)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as unguarded:
        unguarded.setattr("models.checkpoint._refuse_not_finite", lambda *_: None)
        save(tmp_path / "v1", broken, LINEAGE)
    with pytest.raises(BrokenCheckpoint, match="not finite: b"):
        load(tmp_path / "v1")


def test_fingerprint_depends_on_content_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})
    canonical = b'{"a":1,"b":[1,2]}'
    assert fingerprint({"b": [1, 2], "a": 1}) == hashlib.sha256(canonical).hexdigest()[:16]
