"""Options that commands share, and the form of what stands at the end of their help."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from features.errors import UsageError

Config = Annotated[
    Path | None, typer.Option(help="Settings file; else FUNNELCAST_CONFIG, else ./funnelcast.toml.")
]
Scenario = Annotated[str | None, typer.Option(help="Scenario; else the one of the settings.")]
Recipe = Annotated[
    list[str] | None, typer.Option(help="Model line, may be repeated; else those of the settings, else all.")
]
Override = Annotated[
    str | None, typer.Option(help="Rules that block this day and that you answer for: volume.click,nulls.")
]
Reason = Annotated[str | None, typer.Option(help="Why; the ledger keeps it.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's own log lines.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for machines: the answer and every log line.")]


def text_of(config: Path | None) -> str | None:
    """The settings file as flows take it: the same from any folder."""
    return None if config is None else str(config.absolute())


def day_of(text: str, zone: str) -> dt.date:
    """A date as it is typed.

    Raises:
        UsageError: it is none.
    """
    if text == "yesterday":
        return dt.datetime.now(ZoneInfo(zone)).date() - dt.timedelta(days=1)
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError("date", f"{text!r} is no date", "write it as 2022-04-25") from None


def examples(*commands: str) -> str:
    r"""What stands at the end of a help text; ``\b`` keeps the line breaks."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)
