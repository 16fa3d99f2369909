"""One day of the shop, run while the interpreter reports what it unpickles, starts and connects to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fault_house import FIRST, LINES, open_house
from shop_logs import write_logs
from watched_day import Watch, Watched

from flows.day import run_day


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUNNELCAST_", "PREFECT_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def watch() -> Watch:
    hook = Watch()
    sys.addaudithook(hook)
    return hook


@pytest.fixture(scope="session")
def watched(watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    root: Path = tmp_path_factory.mktemp("watched")
    write_logs(root / "logs", [FIRST])
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
            patch.delenv(name)
        house = open_house(root)
        watch.on = True
        run_day(house, FIRST, LINES)
        watch.on = False
    return Watched(house, tuple(watch.seen))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
