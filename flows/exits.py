"""How the command line says why it ends."""

from __future__ import annotations

import json
import sys
import traceback

from flows import logs


def fail(line: str, status: int, given: list[str]) -> int:
    """Say why on standard error, in one line or, for machines, in one object."""
    if "--debug" in given and sys.exc_info()[0] is not None:
        print(logs.redact(traceback.format_exc()), file=sys.stderr)
    line = logs.redact(line)
    print(json.dumps({"error": line, "exit_code": status}) if "--json" in given else line, file=sys.stderr)
    _forget(sys.exc_info()[1])
    return status


def _forget(error: BaseException | None) -> None:
    """Free what the frames of an error hold; Prefect keeps the error until the interpreter ends.

    A DuckDB connection among it would then be reported as leaked, on twenty lines after our one.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
