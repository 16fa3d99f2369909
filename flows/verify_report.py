"""What `funnelcast verify` prints: progress while it reads, then a table of what it found."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import logs
from flows.harmless import json_line
from flows.query import as_text, relative

if TYPE_CHECKING:
    from flows.house import House
    from flows.verify import Verified

log = logging.getLogger("funnelcast.verify")
_EVERY_SECONDS = 10.0
_SHOWN = 20


class Progress:
    """A bar on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("verifying"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeRemainingColumn(),
                console=logs.terminal(),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int, of: int) -> None:
        """Bytes read so far, and of how many."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=of)
        elif time.monotonic() - self._said > _EVERY_SECONDS:
            self._said = time.monotonic()
            log.info("verified %s of %s", amount(done), amount(of))


def show(house: House, found: Verified, as_json: bool) -> None:
    """Faults one by one, loose files by kind, and the sum."""
    root = house.store.root
    if as_json:
        print(
            json_line(
                {
                    "warehouse": str(root),
                    "tables": found.tables,
                    "files": found.files,
                    "rows": found.rows,
                    "bytes": found.size,
                    "checkpoints": found.checkpoints,
                    "running": found.running,
                    "faults": [
                        {"where": f.where, "found": f.found, "remedy": f.remedy} for f in found.faults
                    ],
                    "loose": [
                        {"path": str(one.path), "bytes": one.size, "why": one.why} for one in found.loose
                    ],
                }
            )
        )
        return
    console = Console()
    if found.faults:
        table = Table("where", "found", title="Not as it was committed", box=box.SIMPLE, title_justify="left")
        for fault in found.faults[:_SHOWN]:
            table.add_row(*(Text(as_text(text)) for text in (fault.where, fault.found)))
        console.print(table)
    if found.loose:
        own = ", or that the run going on writes" if found.running else ""
        title = f"Files that nothing refers to{own}"
        table = Table("what", "files", "size", title=title, box=box.SIMPLE, title_justify="left")
        counts, sizes = Counter(one.why for one in found.loose), Counter[str]()
        for one in found.loose:
            sizes[one.why] += one.size
        for why, count in counts.most_common(_SHOWN):
            table.add_row(Text(as_text(why)), f"{count:,}", amount(sizes[why]))
        console.print(table)
        console.print("--json lists them all.", highlight=False)
    sound = "all as committed" if not found.faults else f"{len(found.faults)} not as committed"
    console.print(
        f"{relative(root)}: {found.tables} tables, {found.files:,} files, {found.rows:,} rows, "
        f"{found.checkpoints} checkpoints, {amount(found.size)} read: {sound}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def amount(size: float) -> str:
    """Bytes for people.

    >>> amount(1_500_000)
    '1.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
