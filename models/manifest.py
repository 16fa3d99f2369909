"""What a checkpoint says of itself, and whether it is true; needs no torch.

``manifest.json`` records size and sha256 of ``model.safetensors``, the caller's lineage, and a hash of its
own content. A file ``retired`` beside it says that upkeep removed the tensors: the version is still known,
and nothing can go on from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.tensor_header import BrokenHeader, shapes

TENSORS = "model.safetensors"
MANIFEST = "manifest.json"
RETIRED = "retired"


class BrokenCheckpoint(ValueError):
    """A checkpoint is not what was saved, or holds numbers that no line may continue from."""


def examine(folder: Path) -> dict[str, Any]:
    """The lineage as it was given to ``save``, after every byte of the checkpoint is verified.

    Raises:
        FileNotFoundError: there is no complete checkpoint in ``folder``, or its tensors were retired.
        BrokenCheckpoint: size, sha256, header or the manifest's text differ from what was saved.
    """
    header, lineage = told(folder)
    tensors = folder / TENSORS
    if not tensors.exists():
        why = "was removed by funnelcast maintain" if (folder / RETIRED).exists() else "is missing"
        raise FileNotFoundError(f"{folder} holds no checkpoint: {TENSORS} {why}.")
    found = {"bytes": tensors.stat().st_size, "sha256": sha256(tensors)}
    if found != header:
        raise BrokenCheckpoint(
            f"{tensors} is not the file that was saved: expected {header}, found {found}. "
            "Use an older version."
        )
    try:
        shapes(tensors)
    except BrokenHeader as error:
        raise BrokenCheckpoint(f"{error} Use an older version.") from error
    return lineage


def told(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Size and sha256 that the tensors should have, and the lineage, after the manifest is verified.

    Raises:
        FileNotFoundError: there is no manifest.
        BrokenCheckpoint: it is not the text that was saved.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{folder} holds no checkpoint: {MANIFEST} is missing.") from error
    try:
        content = json.loads(text)
        lineage, header = content["lineage"], {"bytes": content["bytes"], "sha256": content["sha256"]}
        rendered = render(header, lineage)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenCheckpoint(f"{folder / MANIFEST} cannot be read as a manifest: {error}.") from error
    if rendered != text:
        raise BrokenCheckpoint(f"{folder / MANIFEST} was changed after it was written. Use an older version.")
    return header, lineage


def render(header: Mapping[str, Any], lineage: Mapping[str, Any]) -> bytes:
    """The manifest's bytes; a hash of its own content makes any later change visible."""
    content = {**header, "lineage": lineage}
    content["manifest"] = hashlib.sha256(canonical(content)).hexdigest()
    return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def canonical(mapping: Mapping[str, Any]) -> bytes:
    """The mapping as JSON that is the same everywhere."""
    return json.dumps(
        mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
