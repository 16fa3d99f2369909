"""Commands that move the version which stands: `promote` and `rollback`."""

from __future__ import annotations

import getpass
import json
from datetime import date as Date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import UsageError
from flows import logs
from flows.options import Config, Debug, Json, Scenario
from flows.settings import Settings

if TYPE_CHECKING:
    from flows.by_hand import Changed
    from flows.house import House

Line = Annotated[str, typer.Argument(help="Model line.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the decision.")]


def promote(
    line: Line,
    reason: Reason,
    day: Annotated[str | None, typer.Option(help="Its version of this day; else of the newest.")] = None,
    version: Annotated[str | None, typer.Option(help="Or the one whose hash begins so.")] = None,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Let a version stand that the gate kept out.

    Only the decision is entered, with your name, in the table `promotions`. The run that is printed scores
    with it; later days that trained from another version are made anew.
    """
    from flows import by_hand

    house = _house(scenario, config, debug, as_json)
    chosen = None if day is None else _date(day)
    changed = by_hand.promote(house, line, day=chosen, version=version, reason=reason, by=_user())
    _show(house, changed, as_json)


def rollback(
    line: Line,
    reason: Reason,
    to: Annotated[
        str | None, typer.Option(help="Version to go back to, its first digits do; else the one before.")
    ] = None,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Go back to a version that stood before.

    Only the decision is entered, with your name, in the table `promotions`. The run that is printed scores
    with it; the next day trains from it, over all rows that it has not learned.
    """
    from flows import by_hand

    house = _house(scenario, config, debug, as_json)
    _show(house, by_hand.rollback(house, line, to=to, reason=reason, by=_user()), as_json)


def _show(house: House, changed: Changed, as_json: bool) -> None:
    from flows.gate_report import SHORT
    from flows.stages.publish import refresh_catalogue

    refresh_catalogue(house)
    entry, before, after = changed.entry, changed.before, changed.after
    named = "" if house.scenario.name == house.settings.scenario else f" --scenario {house.scenario.name}"
    step = f"funnelcast backfill {entry.day} {changed.newest} --recipe {entry.line}{named}"
    if as_json:
        told = {
            "line": entry.line,
            "day": entry.day,
            "decision": entry.decision,
            "stands": {"version": after.version, "day": after.day},
            "stood": None if before is None else {"version": before.version, "day": before.day},
            "decided_by": entry.decided_by,
            "reason": entry.reason,
            "next": step,
        }
        print(json.dumps(told, default=str, ensure_ascii=False))
        return
    was = "none" if before is None else f"{before.version[:SHORT]} of {before.day}"
    print(
        f"{entry.line}: after {entry.day} {after.version[:SHORT]} of {after.day} stands; it was {was}.\n"
        f"Next: {step}"
    )


def _house(scenario: str | None, config: Path | None, debug: bool, as_json: bool) -> House:
    from flows.house import House

    logs.configure(as_json=as_json, debug=debug)
    return House.open(Settings.load(None if config is None else str(config.absolute())), scenario)


def _date(text: str) -> Date:
    try:
        return Date.fromisoformat(text)
    except ValueError:
        raise UsageError("--day", f"{text!r} is no date", "write it as 2022-04-25") from None


def _user() -> str:
    """Who is at the keyboard; a container may know no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
