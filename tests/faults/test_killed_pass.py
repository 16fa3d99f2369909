"""F05: a training that is killed within its day."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fault_house import FIRST, open_house

from features.fingerprint import file_sha256
from flows.house import House
from flows.stages import train

LINE = "ple"  # not yet trained


def copied(root: Path, to: Path) -> House:
    shutil.copytree(root, to)
    return open_house(to)


def often(house: House, rows: int) -> House:
    """The same house, where training writes down its state after so many rows."""
    return replace(house, settings=house.settings.model_copy(update={"checkpoint_rows": rows}))


def learn(root: Path, rows: int) -> None:
    """What the process does that is killed."""
    train.run(often(open_house(root), rows), FIRST, (LINE,))


def checkpoints(house: House) -> dict[str, str]:
    folder = house.store.root / "checkpoints" / LINE
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.rglob("*") if file.is_file()}


def test_F05_a_killed_pass_goes_on_in_the_middle_of_its_day(
    first_day: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = copied(first_day, tmp_path / "whole")
    train.run(often(whole, 0), FIRST, (LINE,))

    killed = copied(first_day, tmp_path / "killed")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deltalake", "duckdb", "numpy", "polars", "pyarrow.parquet", "torch"])
    process = context.Process(target=learn, args=(tmp_path / "killed", 200))
    process.start()
    partly = killed.store.root / "_partial" / LINE
    while process.is_alive() and not list(partly.glob("[0-9]*/manifest.json")):
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(partly.glob("*/manifest.json")) != []
    assert checkpoints(killed) == {}  # the day has no version yet

    with caplog.at_level(logging.INFO, "funnelcast.resume"):
        train.run(often(killed, 1_000), FIRST, (LINE,))
    assert "goes on after" in caplog.text
    assert checkpoints(killed) == checkpoints(whole) != {}
    assert not partly.exists()
