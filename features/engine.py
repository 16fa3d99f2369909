"""DuckDB connections with stated limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one connection may use.

    Attributes:
        memory: DuckDB size such as ``4GB``; beyond it, work spills to ``scratch``.
        threads: worker threads.
        scratch: folder for spilled data.
    """

    memory: str
    threads: int
    scratch: Path


@contextmanager
def connect(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that spills to a folder of its own, removed at the end.

    Results keep the order that their query asks for, so that equal inputs give equal files.
    """
    limits.scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=limits.scratch, prefix="duckdb-") as scratch:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": limits.memory,
            "threads": str(limits.threads),
            "temp_directory": scratch,
            "autoinstall_known_extensions": "false",
        }
        with duckdb.connect(config=config) as connection:
            yield connection
