"""What the tests of the flows share: a world without the developer's own settings and servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Prefect reads its home when a test module imports it; without this it would be the developer's.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="funnelcast-prefect-")


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FUNNELCAST_", "PREFECT_")):
            monkeypatch.delenv(name)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database of Prefect: making one takes 8 seconds, copying it none."""
    home = tmp_path_factory.mktemp("prefect")
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("FUNNELCAST_", "PREFECT_"))
    }
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env={**own, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"},
        cwd=home,
        check=True,
        capture_output=True,
        timeout=240,
    )
    return home / "prefect.db"


@pytest.fixture
def warehouse(tmp_path: Path, prefect_database: Path) -> Path:
    """An empty warehouse in which Prefect's database is already prepared."""
    home = tmp_path / "warehouse" / ".prefect"
    home.mkdir(parents=True)
    for file in prefect_database.parent.glob("prefect.db*"):
        shutil.copy(file, home)
    return home.parent


@pytest.fixture
def funnelcast(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a process of its own, in an empty folder with the given environment."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *words],
            env={**own, "FUNNELCAST_WAREHOUSE": str(tmp_path / "warehouse"), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run
