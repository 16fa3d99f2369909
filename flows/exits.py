"""How the command line says why it ends."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from types import FrameType

from flows import logs
from flows.harmless import harmless, json_line


def heed_sigterm() -> None:
    """End on SIGTERM as on Ctrl-C: leases are given back, staged files removed, the ledger says so."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def fail(line: str, status: int, given: list[str]) -> int:
    """Say why on standard error, in one line or, for machines, in one object."""
    if "--debug" in given and sys.exc_info()[0] is not None:
        print(harmless(logs.redact(traceback.format_exc()), lines=True), file=sys.stderr)
    line = harmless(logs.redact(line))
    print(json_line({"error": line, "exit_code": status}) if "--json" in given else line, file=sys.stderr)
    _forget(sys.exc_info()[1])
    return status


def _forget(error: BaseException | None) -> None:
    """Free what the frames of an error hold; Prefect keeps the error until the interpreter ends.

    A DuckDB connection among it would then be reported as leaked, on twenty lines after our one.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
