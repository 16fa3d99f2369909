"""Whether data files still hold what was committed, asked of every file before its rows are used.

A data file is named after its own bytes (`DataPath`): the first 16 hex digits of their SHA-256
were written down when the file was, in its name and so in the log. One flipped bit in a zstd page is read as
wrong rows, without an error, by DuckDB and by Polars, so nothing but the hash would notice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from features.errors import BadWarehouse, ChecksumMismatch
from features.fingerprint import file_sha256

DIGITS = 16
_Stamp: TypeAlias = tuple[int, int, int, int]
_MOST = 65_536
# A file that is touched twice within one tick of the kernel's clock keeps its stamp.
_TICK_NS = 100_000_000
_known: dict[Path, _Stamp] = {}


def refuse_changed(paths: Iterable[Path]) -> None:
    """Hold data files to the digest in their names; a file that was not touched since is not read again.

    Once a process and file: what rots on disk later is seen by the next process. The files are in the
    page cache afterwards, so that the reader who asked finds them there.

    Args:
        paths: data files under their final names.

    Raises:
        ChecksumMismatch: the first of them that holds other bytes.
        BadWarehouse: one of them is gone or cannot be read.
    """
    stamps = {path: _stamp(path) for path in paths}
    new = [path for path, stamp in stamps.items() if _known.get(path) != stamp]
    if len(new) > 1:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1, len(new))) as pool:
            list(pool.map(_refuse_changed, new))
    elif new:
        _refuse_changed(new[0])
    if len(_known) + len(new) > _MOST:
        _known.clear()
    old_enough = time.time_ns() - _TICK_NS
    _known.update({path: stamps[path] for path in new if stamps[path][1] < old_enough})


def found_digest(path: Path) -> str:
    """What the name of a data file with these bytes would say."""
    return file_sha256(path)[:DIGITS]


def told_digest(path: Path) -> str:
    """What the name says."""
    return path.stem.rsplit("-", 1)[1]


def remedy(folder: str) -> str:
    """What to do about a file of this partition that is gone or changed."""
    return f"restore the file, or remove it and make {folder} again, which gives the same bytes"


def _refuse_changed(path: Path) -> None:
    try:
        found = found_digest(path)
    except OSError as error:
        raise BadWarehouse(str(path), f"cannot be read: {error.strerror}", remedy(_folder(path))) from error
    if found != told_digest(path):
        raise ChecksumMismatch(
            str(path), f"sha256 {found}, committed {told_digest(path)}", remedy(_folder(path))
        )


def _stamp(path: Path) -> _Stamp:
    try:
        told = os.stat(path)
    except OSError as error:
        found = f"a live file is gone: {error.strerror}"
        raise BadWarehouse(str(path), found, remedy(_folder(path))) from error
    return told.st_ino, told.st_mtime_ns, told.st_ctime_ns, told.st_size


def _folder(path: Path) -> str:
    parts = [part for part in path.parts[-3:-1] if "=" in part]
    return "/".join(parts)
