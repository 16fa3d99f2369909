"""Samples are made a block of impressions at a time; where the blocks end must not show."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest
from shop_logs import Logs, make_logs, write_logs

from features import impression_shards
from features.calendar import day_of
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows.house import House
from flows.settings import Settings
from flows.stages import exposures, read, sample, view

DAYS = [date(2026, 4, 7) + timedelta(days=n) for n in range(2)]
TABLE = samples(SCENARIO)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("logs")
    write_logs(root, DAYS)
    return root


@pytest.fixture(scope="module")
def truth() -> Logs:
    return make_logs(DAYS)


def house(root: Path, logs: Path) -> House:
    settings = Settings(warehouse=root, logs={"shop": logs}, scenario="shop", memory_limit="1GB", threads=2)
    return House.open(settings)


def test_blocks_and_shards_of_any_size_give_the_same_bytes(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewed = house(tmp_path / "viewed", logs)
    for day in DAYS:
        for stage in (read, view):
            stage.run(viewed, day, ())
    files = []
    for rows, of_shard in ((exposures.BLOCK, impression_shards.ROWS), (128, 10**6), (128, 300)):
        monkeypatch.setattr(exposures, "BLOCK", rows)
        monkeypatch.setattr(impression_shards, "ROWS", of_shard)
        made = house(copytree(tmp_path / "viewed", tmp_path / f"{rows}-{of_shard}"), logs)
        sample.run(made, DAYS[-1], ())
        (file,) = made.store.snapshot(TABLE).files
        assert file.rows > 1_000
        files.append(str(file.path))
    # The name of a file ends in the hash of its bytes.
    assert files[0] == files[1] == files[2]


def test_impressions_of_a_day_come_once_each_in_the_order_of_their_exposure(
    tmp_path: Path, logs: Path, truth: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "BLOCK", 100)
    made = house(tmp_path, logs)
    for day in DAYS:
        read.run(made, day, ())
    shown = [event for event in truth.events["exposure"] if day_of(event.at, SCENARIO.zone) == DAYS[0]]
    assert {event.arrives for event in shown} == set(DAYS)
    for as_of in DAYS:
        blocks = list(exposures.exposures(made, DAYS[0], as_of))
        assert max(block.height for block in blocks) <= 100
        expected = sorted((event.at, event.id) for event in shown if event.arrives <= as_of)
        assert pl.concat(blocks).select("exposed_at", "impression_id").rows() == expected
