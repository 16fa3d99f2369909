"""One holder at a time, among the processes of one machine; a dead holder holds nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from features.errors import BadWarehouse, Busy

_POLL_SECONDS = 0.02
#: How long a holder is given to sign, before whoever it refuses is told that it has not.
_TO_SIGN_SECONDS = 1.0


@contextmanager
def lease(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    The kernel gives the lock back when the process ends, however it ends, so there is no heartbeat
    and no stale lock. The file itself stays: removing it would let two processes lock two files of
    one name. A child made by plain ``fork`` shares the lock until it ends too.

    Args:
        path: the lock file; its folder is made if it is missing.
        wait: seconds to wait for another holder.

    Raises:
        Busy: another process, or another block of this one, holds it; names the holder.
        BadWarehouse: ``path`` is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # What it names is overwritten: a link of somebody else's making must not lead to a file of ours.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BadWarehouse(str(path), "is a link, and a lock never is", "remove it") from error
    try:
        _lock(descriptor, path, time.monotonic() + wait)
        _write(descriptor, _card())
        try:
            yield
        finally:
            _write(descriptor, {})
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(
                    path.stem, f"held by {_holder(path)}", "wait for it to end, then run again"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _card() -> dict[str, object]:
    # Wall time is for the human who reads the error; nothing is decided by it.
    started = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started.isoformat()}


def _write(descriptor: int, card: dict[str, object]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(card).encode(), 0)


def _holder(path: Path) -> str:
    """Who wrote the lock file; just now it may be between two holders, so it is read until somebody has."""
    deadline = time.monotonic() + _TO_SIGN_SECONDS
    while True:
        try:
            card = json.loads(path.read_text())
            return f"process {card['pid']} on {card['host']} since {card['started']} UTC"
        except (ValueError, KeyError, OSError):
            if time.monotonic() >= deadline:
                return "a process that has not signed yet"
            time.sleep(_POLL_SECONDS)
