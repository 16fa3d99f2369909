"""A warehouse of the scenario ``shop``: opened, walked through day by day, and told in files and bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from deltalake import DeltaTable

from features.fingerprint import file_sha256
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.schemas import COMPLETENESS, events, rollup, samples, view
from features.tables import Table
from flows.house import House
from flows.settings import Settings
from flows.stages import read, sample
from flows.stages import view as views
from flows.stages.record import StageRecord

STAGES = (read, views, sample)
#: Everything that these stages make beside the quarantine, whose inputs tell which run was the last.
TABLES: tuple[Table, ...] = (
    *(events(source) for source in SCENARIO.sources if source.role != "candidate"),
    *(rollup(declared, SCENARIO) for declared in SCENARIO.rollups),
    *(view(declared, SCENARIO) for declared in SCENARIO.views),
    COMPLETENESS,
    samples(SCENARIO),
)


def open_house(root: Path, scenario: Scenario = SCENARIO) -> House:
    """The shop's warehouse in a folder with its logs, without the developer's own settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
            patch.delenv(name)
        settings = Settings(
            warehouse=root / "warehouse",
            logs={"shop": root / "logs"},
            scenario="shop",
            memory_limit="1GB",
            threads=2,
        )
    return replace(House.open(settings), scenario=scenario)


def copy_house(house: House, root: Path, scenario: Scenario = SCENARIO) -> House:
    """The same warehouse and logs in another folder."""
    shutil.copytree(house.settings.warehouse.parent, root)
    return open_house(root, scenario)


def run(house: House, *days: date) -> list[StageRecord]:
    """Days up to their samples, one after the other."""
    return [record for day in days for stage in STAGES for record in stage.run(house, day, ())]


def pending(house: House, day: date) -> list[str]:
    """The stages that have something to do on a day, each asked by itself."""
    return [stage.STAGE for stage in STAGES if stage.pending(house, day, ())]


def backfill(house: House, days: Iterable[date]) -> list[date]:
    """Run the unfinished days, oldest first; each is judged when its turn comes. The days that were run."""
    done = []
    for day in days:
        if pending(house, day):
            run(house, day)
            done.append(day)
    return done


def deliver(source: Path, logs: Path, days: Iterable[date]) -> None:
    """Copy the deliveries of these days into a log root."""
    for day in days:
        for folder in source.glob(f"*/dt={day}"):
            shutil.copytree(folder, logs / folder.relative_to(source))


def live(house: House, table: Table) -> list[tuple[str, int, str]]:
    """Name, rows and hash of every live file of a table."""
    files = house.store.snapshot(table).files
    paths = house.store.paths(table, files)
    return [(str(f.path), f.rows, file_sha256(path)) for f, path in zip(files, paths, strict=True)]


def live_tables(house: House) -> dict[str, list[tuple[str, int, str]]]:
    """The same of all tables; the folder of a file tells its day, its name what it was made from."""
    return {table.name: live(house, table) for table in TABLES}


def tree(house: House) -> dict[Path, str]:
    """Every file of the warehouse, but for the locks, which say who held them last."""
    files = (file for file in house.store.root.rglob("*") if file.is_file())
    return {file: file_sha256(file) for file in files if "_locks" not in file.parts}


def drop(house: House, table: Table, day: date) -> None:
    """Take a day out of a table, as somebody does who knows nothing of us."""
    before = house.store.days(table)
    DeltaTable(house.store.folder(table)).delete(f"dt = '{day}'")
    assert house.store.days(table) == [found for found in before if found != day]
