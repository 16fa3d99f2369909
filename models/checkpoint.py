"""Checkpoints: tensors as safetensors, lineage as JSON, visible only when complete.

A checkpoint is a folder of two files. ``manifest.json`` records size and sha256 of ``model.safetensors``
and holds the caller's lineage as it was given. Equal inputs make equal bytes: nothing of the clock, the
machine or the process is written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.manifest import MANIFEST, TENSORS, BrokenCheckpoint, canonical, examine, render, sha256

__all__ = ["MANIFEST", "TENSORS", "BrokenCheckpoint", "fingerprint", "load", "save"]


def save(folder: Path, state: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Write a checkpoint that appears at once or not at all.

    The files are written and fsynced in a folder beside ``folder``, which one rename then makes visible.
    Saving what is already there changes nothing.

    Args:
        folder: where it will appear; its parent exists.
        state: tensors by name.
        manifest: lineage, stored verbatim; anything that JSON can hold (tuples come back as lists).

    Raises:
        FileExistsError: ``folder`` holds something else.
        BrokenCheckpoint: a tensor is not finite.
    """
    _refuse_not_finite(folder, state)
    staged = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    staged.mkdir()
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, staged / TENSORS)
        header = {"bytes": (staged / TENSORS).stat().st_size, "sha256": sha256(staged / TENSORS)}
        (staged / MANIFEST).write_bytes(render(header, manifest))
        for path in (staged / TENSORS, staged / MANIFEST, staged):
            _fsync(path)
        try:
            os.rename(staged, folder)
        except OSError:
            if not folder.exists():
                raise
            if not _same(staged, folder):
                raise FileExistsError(
                    f"{folder} exists and holds another checkpoint. A version is written once; "
                    "save under another name."
                ) from None
        _fsync(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint after verifying every byte of it.

    Returns:
        The tensors by name, and the lineage as it was given to ``save``.

    Raises:
        FileNotFoundError: there is no complete checkpoint in ``folder``.
        BrokenCheckpoint: size, sha256, header or the manifest's text differ from what was saved, or a tensor
            is not finite.
    """
    lineage = examine(folder)
    try:
        state = load_file(folder / TENSORS)
    except SafetensorError as error:  # whatever the library knows beyond our own reading of the header
        raise BrokenCheckpoint(f"{folder / TENSORS} cannot be read: {error}.") from error
    _refuse_not_finite(folder, state)
    return state, lineage


def fingerprint(mapping: Mapping[str, Any]) -> str:
    """Name of a version: the first 16 hexadecimal digits of the sha256 of the canonical JSON.

    >>> fingerprint({"parent": None, "seed": 1}) == fingerprint({"seed": 1, "parent": None})
    True
    """
    return hashlib.sha256(canonical(mapping)).hexdigest()[:16]


def _same(one: Path, other: Path) -> bool:
    return all(
        (other / name).is_file() and (one / name).read_bytes() == (other / name).read_bytes()
        for name in (MANIFEST, TENSORS)
    )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_not_finite(folder: Path, state: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise BrokenCheckpoint(f"{folder}: not finite: {', '.join(bad)}.")
