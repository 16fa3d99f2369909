"""What two things must share to be the same: short hashes of settings, whole hashes of files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import Path, PurePath

_CHUNK = 1 << 20


def canonical(obj: object) -> str:
    """JSON text that is the same on every machine and in every process: keys sorted, no blanks.

    Raises:
        TypeError: a type whose text form we do not promise to keep, or a key that is not a string.
        ValueError: a float that JSON cannot hold (NaN, infinity).

    >>> canonical({"b": (1, 2), "a": date(2026, 1, 2)})
    '{"a":{"date":"2026-01-02"},"b":[1,2]}'
    """
    return json.dumps(_plain(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(obj: object) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of ``obj``.

    Raises:
        TypeError: see `canonical`; silence here would make two different runs look equal.
        ValueError: see `canonical`.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical(obj).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits, read in pieces of 1 MiB.

    Raises:
        FileNotFoundError: there is no such file.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(obj: object) -> object:
    """``obj`` from JSON's own types; tagged where two types would otherwise share a text."""
    if isinstance(obj, Enum):  # before str and int, which an enum may also be
        return {"enum": f"{type(obj).__qualname__}.{obj.name}"}
    if obj is None or isinstance(obj, str | bool | int):
        return obj
    if isinstance(obj, float):
        if not math.isfinite(obj):
            raise ValueError(f"A fingerprint needs finite numbers, got {obj!r}.")
        return obj
    if isinstance(obj, datetime):
        return {"datetime": obj.isoformat()}
    if isinstance(obj, date):
        return {"date": obj.isoformat()}
    if isinstance(obj, timedelta):
        return {"microseconds": obj // timedelta(microseconds=1)}
    if isinstance(obj, PurePath):
        return {"path": obj.as_posix()}
    if isinstance(obj, Mapping):
        return {_key(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(item) for item in obj]
    if isinstance(obj, set | frozenset):
        return {"set": sorted(canonical(item) for item in obj)}
    if is_dataclass(obj) and not isinstance(obj, type):
        if not obj.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"{type(obj).__qualname__} is not frozen: its fingerprint could go stale.")
        # The class name is part of it: two settings with equal fields may mean different things.
        return {
            type(obj).__qualname__: {field.name: _plain(getattr(obj, field.name)) for field in fields(obj)}
        }
    raise TypeError(f"No canonical text for {type(obj).__qualname__}: {obj!r}.")


def _key(key: object) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return key
    raise TypeError(f"Keys must be strings, got {key!r}.")
