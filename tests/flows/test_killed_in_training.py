"""Training that is killed in the middle of a day, for real, goes on from there and ends in the same bytes."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from shop_house import copy_house, open_house
from shop_house import run as run_stages
from shop_logs import write_logs

from features.fingerprint import file_sha256
from flows.house import House
from flows.stages import train

DAYS = (date(2026, 3, 27), date(2026, 3, 28))
LINE = "esmm"


def often(house: House, rows: int) -> House:
    """The same house, where training writes down its state after so many rows."""
    return replace(house, settings=house.settings.model_copy(update={"checkpoint_rows": rows}))


def learn(root: Path, rows: int) -> None:
    """What the process does that is killed."""
    train.run(often(open_house(root), rows), DAYS[1], (LINE,))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two days of samples, of which the line has learned the first."""
    root = tmp_path_factory.mktemp("resume") / "shop"
    write_logs(root / "logs", DAYS)
    found = open_house(root)
    run_stages(found, *DAYS)
    train.run(found, DAYS[0], (LINE,))
    return found


def checkpoints(house: House) -> dict[str, str]:
    folder = house.store.root / "checkpoints"
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.rglob("*") if file.is_file()}


def test_a_killed_pass_goes_on_in_the_middle_of_its_day(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = copy_house(house, tmp_path / "whole")
    train.run(often(whole, 0), DAYS[1], (LINE,))

    killed = copy_house(house, tmp_path / "killed")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deltalake", "duckdb", "numpy", "polars", "pyarrow.parquet", "torch"])
    process = context.Process(target=learn, args=(tmp_path / "killed", 200))
    process.start()
    partial = killed.store.root / "_partial" / LINE
    while process.is_alive() and len(list(partial.glob("[0-9]*/manifest.json"))) < 1:
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(partial.glob("*/manifest.json")) != []
    assert len(checkpoints(killed)) == 2  # the day has no version yet

    with caplog.at_level(logging.INFO, "funnelcast.resume"):
        train.run(often(killed, 1_000), DAYS[1], (LINE,))
    assert "goes on after" in caplog.text
    assert checkpoints(killed) == checkpoints(whole)
    assert len(checkpoints(killed)) == 4
    assert not partial.exists()
