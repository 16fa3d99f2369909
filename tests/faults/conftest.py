"""Two days of the shop's logs, and a warehouse with the first of them: made once, copied for every case."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_house import FIRST, LINES, SECOND, open_house
from shop_logs import write_logs

from flows.day import run_day
from flows.house import House


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUNNELCAST_", "PREFECT_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("first")
    write_logs(root / "logs", [FIRST, SECOND])
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
            patch.delenv(name)
        run_day(open_house(root), FIRST, LINES)
        yield root


@pytest.fixture
def house(first_day: Path, tmp_path: Path) -> House:
    shutil.copytree(first_day, tmp_path, dirs_exist_ok=True)
    return open_house(tmp_path)
