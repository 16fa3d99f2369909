"""One day of the shop, run while the interpreter reports what it unpickles, starts and connects to."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fault_house import FIRST, LINES, open_house
from shop_logs import write_logs

from flows.day import run_day
from flows.house import House

#: Events of the interpreter (PEP 578): an object that a pickle names, a process, a way out of the machine.
WATCHED = {"pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}


@dataclass
class Watch:
    """What happened while it was on; a hook cannot be taken away again, only be told to look away."""

    on: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, told: tuple[object, ...]) -> None:
        if self.on and event in WATCHED:
            self.seen.append(f"{event} {told}")


@dataclass(frozen=True)
class Watched:
    """A house with its first day, and what the interpreter reported while that day was run."""

    house: House
    seen: tuple[str, ...]


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
