"""What the machine denies a run: room on the disk, memory, the right to write.

Engines say each of it in words of their own; a run says it in ours, with what to change. Nothing that was
committed is touched by it, and what was staged is removed by whoever staged it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from features.errors import BadWarehouse, DiskFull, OutOfMemory
from flows.house import House

#: No room, no quota left, and a file above the size that the system allows.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SAID = tuple(os.strerror(number) for number in _FULL)


@contextmanager
def telling(house: House, what: str) -> Iterator[None]:
    """Say in our words what the machine denied while the block ran.

    Args:
        house: where it ran.
        what: what the block does, such as ``read of 2026-03-28``.

    Raises:
        DiskFull: names the file or the folder, and what is free there.
        OutOfMemory: names the setting.
    """
    try:
        yield
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        raise _memory(house, what, error) from error
    except Exception as error:
        if not _full(error):
            raise
        raise _disk(house, what, error) from error


def refuse_unwritable(house: House) -> None:
    """Find a warehouse that cannot be written before any work begins, and change nothing.

    Every folder that a commit writes into is asked; a file is made and removed in the first of them, because
    a user who may do everything is told of no permission that is missing.

    Raises:
        BadWarehouse: names the folder and the reason.
    """
    root = house.store.root
    home = next(folder for folder in (root, *root.parents) if folder.exists())
    step = "make it writable for this user, or set FUNNELCAST_WAREHOUSE to a folder that is"
    tables = [log.parent for log in (*root.glob("*/_delta_log"), *root.glob("*/*/_delta_log"))]
    inner = [*tables, *(table / "_delta_log" for table in tables), root / "_staging", root / "checkpoints"]
    for folder in (home, *(folder for folder in inner if folder.exists())):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadWarehouse(str(folder), "cannot be written, and no work was begun", step)
    probe = home / f".funnelcast-probe-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        said = f"cannot be written ({error.strerror}), and no work was begun"
        raise BadWarehouse(str(home), said, step) from error


def _full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; engines only say it in their text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return any(said in str(error) for said in _SAID)


def _disk(house: House, what: str, error: Exception) -> DiskFull:
    named = getattr(error, "filename", None)
    root = house.store.root
    room = shutil.disk_usage(root if root.exists() else root.parent)
    return DiskFull(
        f"{what}, {named or root}",
        f"{_one_line(error)}; {room.free / 2**20:,.0f} MiB of {room.total / 2**20:,.0f} are free",
        "free some space there (funnelcast maintain), then give the same command again; "
        "what was committed before stays, and what was being written is removed",
    )


def _memory(house: House, what: str, error: BaseException) -> OutOfMemory:
    return OutOfMemory(
        what,
        f"{_one_line(error)}; memory_limit is {house.settings.memory_limit}",
        "raise memory_limit in funnelcast.toml (FUNNELCAST_MEMORY_LIMIT), or lower threads; "
        "room on the disk helps too, since DuckDB spills to the warehouse",
    )


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
