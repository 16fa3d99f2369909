"""A bound on the memory of this process while a question is answered."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Beside what DuckDB may take: a million rows as Python objects, and DuckDB's own buffers.
BESIDE = 2 << 30
_TOLD = Path("/proc/self/status")


@contextmanager
def bounded(extra: int) -> Iterator[None]:
    """Let the process allocate ``extra`` bytes more than it has now; what asks for more is refused.

    DuckDB counts tables, sorts and joins against its ``memory_limit``, but not the text that one function
    makes: ``repeat('x', 3000000000)`` takes 3 GB of any limit (DuckDB 2.0.0). The kernel counts everything.
    It is asked on Linux alone; other systems do not enforce it.
    """
    if not _TOLD.is_file():
        yield
        return
    (line,) = (line for line in _TOLD.read_text("utf-8").splitlines() if line.startswith("VmData:"))
    now = int(line.split()[1]) << 10  # the file tells KiB
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bound = now + extra if before[1] == resource.RLIM_INFINITY else min(now + extra, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
