"""Commands that look after a warehouse: `verify` reads every byte of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows import logs
from flows.options import Config, Debug, Json, Scenario
from flows.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from flows.house import House


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


def _house(config: Path | None, scenario: str | None, debug: bool, as_json: bool) -> House:
    from flows.house import House

    logs.configure(as_json=as_json, debug=debug)
    return House.open(Settings.load(None if config is None else str(config.absolute())), scenario)
