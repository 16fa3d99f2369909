"""A checkpoint that lies about its size, shapes or types is refused before anything is allocated for it."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.checkpoint import MANIFEST, TENSORS, BrokenCheckpoint, load
from models.manifest import RETIRED, render
from models.tensor_header import MOST_HEADER_BYTES, BrokenHeader, shapes


def file_of(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(dtype: str = "F32", shape: list[Any] | None = None, at: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [2] if shape is None else shape, "data_offsets": at or [0, 8]}


BODY = bytes(8)
ATTACKS = {
    "empty file": b"",
    "seven bytes": b"1234567",
    "header longer than the file": file_of({"a": entry()}, BODY, length=10**6),
    "header of 2^63 bytes": file_of({"a": entry()}, BODY, length=2**63),
    "header longer than any of ours": file_of(b" " * (MOST_HEADER_BYTES + 1)),
    "no JSON": file_of(b"\x80\x04 not json"),
    "no UTF-8": file_of(b'{"\xff": 1}'),
    "nested a million deep": file_of(b'{"a":' + b"[" * 1_000_000),
    "a list": file_of([1, 2]),
    "a tensor of 2^80 bytes": file_of({"a": entry(shape=[2**39, 2**39], at=[0, 2**80])}, BODY),
    "a product that wraps round 2^64": file_of({"a": entry(shape=[2**62, 4], at=[0, 8])}, BODY),
    "shape larger than its bytes": file_of({"a": entry(shape=[3])}, BODY),
    "negative axes that multiply to the right size": file_of({"a": entry(shape=[-2, -1])}, BODY),
    "an axis that is true": file_of({"a": entry("U8", [True, 8])}, BODY),
    "an axis of 2.0": file_of({"a": entry(shape=[2.0])}, BODY),
    "twenty axes": file_of({"a": entry(shape=[2] + [1] * 20)}, BODY),
    "overlapping tensors": file_of({"a": entry(), "b": entry(at=[4, 12])}, bytes(12)),
    "one range for two tensors": file_of({"a": entry(), "b": entry()}, BODY),
    "a hole": file_of({"a": entry(), "b": entry(at=[12, 20])}, bytes(20)),
    "bytes that nobody owns": file_of({"a": entry()}, bytes(9)),
    "past the end": file_of({"a": entry(shape=[4], at=[0, 16])}, BODY),
    "backwards": file_of({"a": entry(shape=[0], at=[8, 0])}, BODY),
    "negative offsets": file_of({"a": entry(at=[-8, 0])}, b""),
    "unknown type": file_of({"a": entry("OBJECT")}, BODY),
    "a type that is no text": file_of({"a": entry() | {"dtype": ["F32"]}}, BODY),
    "a key too many": file_of({"a": entry() | {"call": "os.system"}}, BODY),
    "one name twice": file_of(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), BODY),
    "a pickle": pickle.dumps({"a": [1.0, 2.0]}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_lying_checkpoint_is_refused_though_its_manifest_agrees(tmp_path: Path, attack: str) -> None:
    """Whoever can write the tensors can write the manifest too: hashes alone do not help."""
    forged(tmp_path, ATTACKS[attack])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenHeader):
        shapes(tmp_path / TENSORS)
    with pytest.raises(BrokenCheckpoint, match="Use an older version"):
        load(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_a_wrong_type_is_told_as_what_it_is(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.float64), "b": torch.ones(3, 1)}, tmp_path / TENSORS)
    assert shapes(tmp_path / TENSORS) == {"a": ("F64", (2,)), "b": ("F32", (3, 1))}


@settings(max_examples=150, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), cut=st.integers(0, 40)
)
def test_whatever_bytes_are_changed_the_loader_says_so_or_reads_whole_tensors(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    save_file({"a": torch.zeros(2, 3), "b": torch.arange(5)}, folder / TENSORS)
    content = bytearray((folder / TENSORS).read_bytes())
    for place, byte in places:
        content[place % len(content)] = byte
    forged(folder, bytes(content[: len(content) - cut]))
    try:
        state, _ = load(folder)
    except BrokenCheckpoint:
        return
    assert sum(tensor.nbytes for tensor in state.values()) == 2 * 3 * 4 + 5 * 8


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_whatever_stands_in_the_manifest_it_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    save_file({"a": torch.zeros(2)}, folder / TENSORS)
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(BrokenCheckpoint):
        load(folder)


def test_retired_tensors_are_told_from_lost_ones(tmp_path: Path) -> None:
    forged(tmp_path, file_of({"a": entry()}, BODY))
    assert load(tmp_path)[0].keys() == {"a"}
    (tmp_path / TENSORS).unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        load(tmp_path)
    (tmp_path / RETIRED).touch()
    with pytest.raises(FileNotFoundError, match="was removed by funnelcast maintain"):
        load(tmp_path)


def forged(folder: Path, content: bytes) -> None:
    """Tensors, and a manifest that agrees with them."""
    (folder / TENSORS).write_bytes(content)
    told = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_bytes(render(told, {}))
