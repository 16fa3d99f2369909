"""What is told while a run goes on: a line a partition, and on a terminal the day that is being worked on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from flows import logs
from flows.stages.record import StageRecord

log = logging.getLogger("funnelcast.day")


def began(day: date, nth: int = 1, of: int = 1) -> None:
    """Say that a day is begun."""
    told = f"day {nth} of {of}: {day}" if of > 1 else str(day)
    log.info("%s", told, extra={"day": str(day), "nth": nth, "of": of})


def already(day: date) -> str:
    """Say that a day is finished; the sentence."""
    told = f"{day} is finished already: nothing to do"
    log.info("%s", told, extra={"day": str(day)})
    return told


def wrote(record: StageRecord) -> None:
    """Say what a stage did with one partition; what was there already is no news."""
    told = {
        "stage": record.stage,
        "table": record.table,
        "day": str(record.day),
        "part": record.part,
        "repeated": record.repeated,
        "rows_in": record.rows_in,
        "rows_out": record.rows_out,
        "deduplicated": record.deduplicated,
        "quarantined": record.quarantined,
        "seconds": record.seconds,
    }
    log.log(logging.DEBUG if record.repeated else logging.INFO, "%s", line(record), extra=told)


def line(record: StageRecord) -> str:
    """One record as a line: stage, table and part, rows in and out, rows kept out by reason, seconds."""
    what = f"{record.table}/{record.part}" if record.part else record.table
    rows = f"{record.rows_out:,} rows"
    if record.rows_in is not None and record.rows_in != record.rows_out:
        rows = f"{record.rows_in:,} -> {rows}"
    told = [f"  {record.stage:<7} {what:<28} {rows}"]
    if record.deduplicated:
        told.append(f"deduplicated {record.deduplicated:,}")
    if record.quarantined:
        reasons = ", ".join(f"{name} {count:,}" for name, count in sorted(record.quarantined.items()))
        told.append(f"quarantined {sum(record.quarantined.values()):,} ({reasons})")
    told.append("was there already" if record.seconds is None else f"{record.seconds:.1f} s")
    return ", ".join(told)


class _Bar(logging.Handler):
    """Moves a bar by the extras of the lines above; it knows nothing of flows."""

    def __init__(self, days: int) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().__init__()
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            console=logs.terminal(),
            transient=True,
        )
        self.bar = self.progress.add_task("starting", total=days)
        self.head = ""

    def emit(self, record: logging.LogRecord) -> None:
        """A line that says ``nth`` begins a day; all others only name the stage that came last."""
        nth = getattr(record, "nth", None)
        if nth is not None:
            self.head = f"day {nth} of {getattr(record, 'of', nth)}  {getattr(record, 'day', '')}"
            self.progress.update(self.bar, completed=nth - 1, description=self.head)
        elif stage := getattr(record, "stage", None):
            self.progress.update(self.bar, description=f"{self.head}  after {stage}")


@contextmanager
def bar(days: int) -> Iterator[None]:
    """A bar over the days of a run, on a terminal; nothing elsewhere."""
    owned = [handler for handler in logging.getLogger(logs.ROOT).handlers if hasattr(handler, "console")]
    if not owned or not sys.stderr.isatty():
        yield
        return
    handler = _Bar(days)
    log.addHandler(handler)
    try:
        with handler.progress:
            yield
    finally:
        log.removeHandler(handler)
