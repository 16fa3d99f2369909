"""Commands that look after a warehouse.

`check` holds what is published to its promises, `verify` reads every byte, `maintain` removes what is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import BrokenPromise
from flows import logs
from flows.options import Config, Debug, Json, Scenario
from flows.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from flows.house import House


def check(
    scenario: Scenario = None, config: Config = None, debug: Debug = False, as_json: Json = False
) -> None:
    """Hold the published tables to the promises of sql/checks.

    Exit code 4 if one is broken.
    """
    from flows import report
    from flows.stages.promise import check_published

    found = check_published(_house(config, scenario, debug, as_json))
    report.promises(found, as_json)
    if found:
        names = ", ".join(offence.check for offence in found)
        raise BrokenPromise(names, "the published tables break it", "read that query, then run the day again")


def verify(
    scenario: Scenario = None, config: Config = None, debug: Debug = False, as_json: Json = False
) -> None:
    """Read every live file and checkpoint, and hold it to what was committed.

    Size, sha256 and row count of every file, every checkpoint, the log of every table, and the files that
    the catalogue points at. Files that nothing refers to are listed. Changes nothing; may run beside a run.
    Exit code 5 if something is not as it was committed.
    """
    from flows.verify import refuse, verified
    from flows.verify_report import Progress, show

    house = _house(config, scenario, debug, as_json)
    with Progress() as progress:
        found = verified(house, progress.step)
    show(house, found, as_json)
    refuse(found)


def maintain(
    scenario: Scenario = None,
    config: Config = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and how many bytes.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, help="Daily versions to keep.")] = 7,
    weeks: Annotated[int, typer.Option(min=0, help="Weekly versions to keep.")] = 4,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Remove superseded files, debris of killed runs and old weights; join small files of the ledger.

    Kept are all live files, those of the newest version of each of the last days and weeks, those that a
    model with weights was trained on, and whatever was replaced less than a week ago, for readers that
    still have it open.
    """
    from flows.maintain import Keep, maintained
    from flows.maintain_report import show

    house = _house(config, scenario, debug, as_json)
    show(house, maintained(house, Keep(days=days, weeks=weeks), dry_run=dry_run), dry_run, as_json)


def _house(config: Path | None, scenario: str | None, debug: bool, as_json: bool) -> House:
    from flows.house import House

    logs.configure(as_json=as_json, debug=debug)
    return House.open(Settings.load(None if config is None else str(config.absolute())), scenario)
