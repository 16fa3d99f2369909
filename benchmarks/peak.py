"""The most memory that this process has held."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Peak resident memory in MiB; ``getrusage`` would count that of the process which started this one.

    Raises:
        RuntimeError: the system does not say; Linux does.
    """
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"No VmHWM in {_STATUS}: run this on Linux.")
