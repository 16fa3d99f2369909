"""A small, sound delivery of every source of every scenario, to be spoiled."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from fuzz_deliveries import DAYS, Sound
from shop_logs import write_logs

from features import scenarios
from features.contracts import raw_files
from features.simulation import Simulation, SimulationSettings

ROWS = 30
SHIPPED = Path(__file__).resolve().parents[2] / "data" / "kuairand"


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Sound]:
    root = tmp_path_factory.mktemp("sound")
    write_logs(root / "shop", [DAYS["shop"]])
    funnel = SimulationSettings(impressions=60, users=20, items=10, start=DAYS["simulated"])
    Simulation(funnel).write(root / "simulated", [DAYS["simulated"]])
    roots = {"shop": root / "shop", "simulated": root / "simulated", "kuairand": SHIPPED}
    found = []
    for name, logs in roots.items():
        for source in scenarios.get(name).sources:
            day: date = DAYS[name]
            if list(logs.glob(source.files.format(day=day))):
                file = raw_files(source, logs, day)[0]
                found.append(
                    Sound(name, source, day, pl.read_parquet(file, hive_partitioning=False).head(ROWS))
                )
    assert len(found) > 8
    return found
