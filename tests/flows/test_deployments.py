"""prefect.yaml for real: server and worker on loopback, a scheduled run that happens, a backfill by hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from shop_logs import write_logs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0


class Installation:
    """A project folder with its settings, a Prefect server and a worker, all temporary."""

    def __init__(self, folder: Path, url: str, environment: dict[str, str]) -> None:
        self.folder, self.url, self.environment = folder, url, environment

    def prefect(self, *words: str) -> str:
        """Run a Prefect command in the project's clone; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask the server's API."""
        answer = httpx.post(f"{self.url}/{path}", json=body, timeout=30, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Runs of a deployment that are not waiting for a later slot."""
        found = self.post(
            "flow_runs/filter",
            {"deployments": {"name": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"},
        )
        return [run for run in found if run["state_type"] != "SCHEDULED"]

    def funnelcast(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run our command line in the settings' folder."""
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    (folder / "funnelcast.toml").write_text('scenario = "shop"\n[logs]\nshop = "raw"\n', "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "FUNNELCAST_"))
    }
    environment = {
        **own,
        "FUNNELCAST_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    }
    server = ("server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui")
    with ExitStack() as stack:
        stack.enter_context(background(folder / "server.log", environment, server))
        wait_until(lambda: healthy(url), "the server is up")
        environment["PREFECT_API_URL"] = url
        installed = Installation(folder, url, environment)
        installed.prefect("work-pool", "create", "funnelcast", "--type", "process")
        installed.prefect("deploy", "--all")
        worker = ("worker", "start", "--pool", "funnelcast", "--name", "test", "--limit", "2")
        stack.enter_context(background(folder / "worker.log", environment, worker))
        yield installed


@contextmanager
def background(log: Path, environment: dict[str, str], words: tuple[str, ...]) -> Iterator[None]:
    """A Prefect process in a group of its own, ended with all its children however the test ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *words],
            cwd=ROOT, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if group_lives(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def wait_until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(1)


def test_a_scheduled_run_is_about_the_day_before_its_slot(installation: Installation) -> None:
    """A slot within the next minutes, in the deployment's own zone; the zone here is that of the shop."""
    slot = (datetime.now(UTC) + timedelta(seconds=75)).replace(second=0, microsecond=0)
    (deployment,) = installation.post("deployments/filter", {"deployments": {"name": {"any_": ["daily"]}}})
    shop = ZoneInfo("Europe/Berlin")
    day = slot.astimezone(shop).date() - timedelta(days=1)
    write_logs(installation.folder / "raw", [day])
    local = slot.astimezone(ZoneInfo("Asia/Shanghai"))
    installation.prefect(
        "deployment", "schedule", "create", "daily/daily",
        "--cron", f"{local.minute} {local.hour} * * *", "--timezone", "Asia/Shanghai",
    )  # fmt: skip
    assert deployment["schedules"][0]["schedule"]["timezone"] == "Asia/Shanghai"
    wait_until(lambda: bool(installation.runs("daily")), "the scheduled run starts")
    wait_until(lambda: ended(installation.runs("daily")[0]), "the scheduled run ends")
    (run,) = installation.runs("daily")
    said = (installation.folder / "worker.log").read_text("utf-8", "replace")
    assert run["state_type"] == "COMPLETED", said
    assert run["name"] == f"daily {day} shop"
    assert f"{day} is done" in told_by(run)
    assert datetime.fromisoformat(run["expected_start_time"]) == slot
    lines = installation.post("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert any("events/exposure" in line["message"] for line in lines)  # our lines, on Prefect's pages
    told = installation.funnelcast("sql", "SELECT DISTINCT dt FROM scores", "--format", "csv")
    assert told.stdout.split() == ["dt", str(day + timedelta(days=1))], told.stderr

    # The same slot again, later: about the same day, and nothing to do.
    installation.prefect("flow-run", "retry", run["id"])
    wait_until(lambda: any("already" in told_by(one) for one in installation.runs("daily")), "the repeat")


def test_a_backfill_by_hand(installation: Installation) -> None:
    first = date(2026, 1, 5)
    days = [first + timedelta(days=n) for n in range(3)]
    write_logs(installation.folder / "raw", days)
    installation.prefect(
        "deployment", "run", "backfill/backfill", "-p", f"start={days[0]}", "-p", f"end={days[-1]}", "--watch"
    )
    told = installation.funnelcast(
        "sql", f"SELECT DISTINCT dt FROM scores WHERE dt < DATE '{first}' + 9 ORDER BY dt", "--format", "csv"
    )
    assert told.stdout.split() == ["dt", *(str(day + timedelta(days=1)) for day in days)], told.stderr
    assert installation.funnelcast("check").returncode == 0


def ended(run: dict[str, Any]) -> bool:
    return run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def told_by(run: dict[str, Any]) -> str:
    return str(run["state"]["message"])
