"""What `funnelcast backfill --dry-run` prints: days, why they would run, and how much they would read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from features.contracts import raw_files
from features.errors import FunnelcastError
from flows.harmless import harmless, json_line
from flows.verify_report import amount

if TYPE_CHECKING:
    from flows.house import House
    from flows.request import Request


@dataclass(frozen=True)
class Size:
    """The raw files of a day.

    Attributes:
        files: their number.
        rows: as their footers say; of files without a readable one, none.
        bytes: on disk.
        missing: sources of which there is no file that can be read.
    """

    files: int
    rows: int
    bytes: int
    missing: tuple[str, ...]


def plan(request: Request, days: Sequence[dt.date], as_json: bool) -> None:
    """Stages still to run, why, and the size of the raw files, per day and in all; nothing is run."""
    from flows.day import pending
    from flows.descendants import stale
    from flows.reasons import reason

    house = request.house
    waiting = {day: pending(house, day, request.lines) for day in days}
    old = stale(house, waiting, request.lines)
    entered = set(request.ran(days))
    sizes = {day: size(house, day) for day in days}
    why = {
        day: reason(house, day, names, request.lines)
        for day, names in waiting.items()
        if names or day not in entered
    }
    why |= {day: f"stale: descends from {since}" for day, since in old.items() if day not in why}
    if as_json:
        told = [
            {
                "day": day, "pending": names, "reason": why.get(day), "logs": not sizes[day].missing,
                "files": sizes[day].files, "rows": sizes[day].rows, "bytes": sizes[day].bytes,
            }
            | ({"stale_since": old[day]} if day in old else {})
            for day, names in waiting.items()
        ]  # fmt: skip
        print(json_line({"days": told}))
        return
    title = f"Backfill of {', '.join(request.lines)}: nothing is run"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in ("day", "to do", "because", "raw rows", "size"):
        table.add_column(heading, justify="right" if heading in ("raw rows", "size") else "left")
    for day, names in waiting.items():
        one = sizes[day]
        lacks = f"; no log of {', '.join(one.missing)}" if one.missing else ""
        because = Text(harmless(f"{why.get(day, 'finished')}{lacks}"))
        table.add_row(str(day), _span(names), because, f"{one.rows:,}", amount(one.bytes))
    console = Console()
    console.print(table)
    chosen = [sizes[day] for day in days if day in why]
    rows, read = sum(one.rows for one in chosen), sum(one.bytes for one in chosen)
    console.print(
        f"{len(chosen)} of {len(days)} days would run; their raw files hold {rows:,} rows in {amount(read)}.",
        soft_wrap=True,
        highlight=False,
    )


def size(house: House, day: dt.date) -> Size:
    """What lies there for a day; a file that holds for all days counts on each."""
    files: list[Path] = []
    missing: list[str] = []
    for source in house.scenario.sources:
        try:
            files += raw_files(source, house.logs, day)
        except FunnelcastError:
            if source.role != "candidate":
                missing.append(source.name)
    own = dict.fromkeys(files)
    return Size(len(own), sum(map(_rows, own)), sum(file.stat().st_size for file in own), tuple(missing))


def _rows(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):  # the run will say what is wrong with it
        return 0


def _span(names: Sequence[str]) -> str:
    """All stages after the first to run are run too."""
    return "" if not names else names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
