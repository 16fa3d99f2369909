"""Prefect around a day: retries, logical dates, names, an embedded API that leaves nothing behind."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake.exceptions import CommitFailedError
from shop_logs import write_logs

from features.errors import Busy, MissingLog, SchemaDrift, UsageError
from flows import cli, embedded
from flows.request import Request
from flows.tasks import transient

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(5, "Input/output error"), True),
        (ConnectionResetError("peer"), True),
        (TimeoutError(), True),
        (Busy("day", "held", "wait"), True),
        (CommitFailedError("conflict"), True),
        (FileNotFoundError(2, "No such file"), False),
        (PermissionError(13, "denied"), False),
        (OSError(28, "No space left on device"), False),
        (SchemaDrift("a", "b", "c"), False),
        (MissingLog("a", "b", "c"), False),
        (UsageError("a", "b", "c"), False),
        (ValueError("x"), False),
        (None, False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: object, again: bool) -> None:
    assert transient(error) is again


@pytest.mark.parametrize(
    ("zone", "scheduled", "day"),
    [
        ("Asia/Shanghai", "2026-01-09T22:15:00+00:00", "2026-01-09"),  # 06:15 on the 10th over there
        ("Asia/Shanghai", "2026-01-10T06:15:00+08:00", "2026-01-09"),
        ("Asia/Shanghai", "2026-01-10T15:59:59+00:00", "2026-01-09"),
        ("Asia/Shanghai", "2026-01-10T16:00:00+00:00", "2026-01-10"),
        ("America/New_York", "2026-01-10T03:00:00+00:00", "2026-01-08"),
        ("Europe/Berlin", "2026-03-29T04:15:00+00:00", "2026-03-28"),  # clocks changed at 01:00 UTC
        ("Europe/Berlin", "2026-10-25T05:15:00+00:00", "2026-10-24"),
        ("UTC", "2024-03-01T00:00:00+00:00", "2024-02-29"),
    ],
)
def test_the_logical_date_is_the_day_before_the_slot_in_the_scenarios_zone(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, zone: str, scheduled: str, day: str
) -> None:
    monkeypatch.setenv("FUNNELCAST_TIME_ZONE", zone)
    request = Request.open()
    slot = dt.datetime.fromisoformat(scheduled)
    assert request.logical_date(None, slot) == dt.date.fromisoformat(day)
    assert request.logical_date(dt.date(2022, 4, 25), slot) == dt.date(2022, 4, 25)


def test_a_range_is_complete_and_oldest_first(elsewhere: Path) -> None:
    days = Request.open().days(dt.date(2024, 2, 28), dt.date(2024, 3, 1))
    assert [day.isoformat() for day in days] == ["2024-02-28", "2024-02-29", "2024-03-01"]


def test_importing_the_command_line_leaves_prefects_settings_alone() -> None:
    """The defaults must be set before Prefect is imported, and only where something is run."""
    script = "import os, flows.cli; print([name for name in os.environ if name.startswith('PREFECT')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_every_key_of_prefect_yaml_is_one_that_prefect_reads() -> None:
    """`prefect deploy` drops unknown fields of a deployment silently."""
    from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, WorkPoolConfig
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.flows import load_flow_from_entrypoint
    from prefect.workers.process import ProcessVariables

    written = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    assert set(written) - {"definitions"} <= fields(PrefectYamlModel)
    assert [one["name"] for one in written["deployments"]] == ["daily", "backfill"]
    for deployment in written["deployments"]:
        assert set(deployment) <= fields(DeploymentConfig)
        assert set(deployment["work_pool"]) <= fields(WorkPoolConfig)
        assert set(deployment["work_pool"]["job_variables"]) <= fields(ProcessVariables)
        limit = deployment["concurrency_limit"]
        assert ConcurrencyLimitConfig.model_validate(limit).limit == 1
        assert set(limit) <= fields(ConcurrencyLimitConfig)
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        assert flow.name == deployment["name"]
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)


def test_the_daily_schedule_is_in_the_scenarios_zone(elsewhere: Path) -> None:
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    (schedule,) = written["deployments"][0]["schedules"]
    assert schedule["timezone"] == Request.open().house.scenario.zone
    assert schedule["cron"] == "15 6 * * *"
    assert set(schedule) <= {"slug", "cron", "timezone", "active", "day_or", "parameters", "replaces"}


def fields(model: Any) -> set[str]:
    """Names under which a model reads its fields."""
    return set(model.model_fields) | {field.alias for field in model.model_fields.values() if field.alias}


def history(warehouse: Path, query: str) -> list[tuple[Any, ...]]:
    """What Prefect has written, read past its API."""
    with sqlite3.connect(warehouse / ".prefect" / "prefect.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.mark.flow
def test_an_embedded_session_keeps_history_and_leaves_no_process(
    warehouse: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real tasks on the real API: a retry, a data error that is not retried, and 40 task runs in the end."""
    from prefect import flow
    from prefect.settings import PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings

    from flows import tasks
    from flows.day import Stage
    from flows.ending import ending

    attempts: list[str] = []

    def flaky(*_: object) -> tuple[()]:
        attempts.append("flaky")
        if attempts.count("flaky") < 3:
            raise ConnectionResetError("peer s3://ann:hunter2@host")
        return ()

    def broken(*_: object) -> tuple[()]:
        attempts.append("broken")
        raise SchemaDrift("exposure", "item_id is text in s3://ann:hunter2@host", "ask the sender")

    stages = [Stage(name, run, lambda *_: True) for name, run in (("flaky", flaky), ("broken", broken))]
    monkeypatch.setattr(tasks, "STAGES", stages)
    monkeypatch.setattr(tasks.run_stage, "retry_delay_seconds", [0.1, 0.1, 0.1])

    @flow(name="forty", persist_result=False)
    @ending
    def forty() -> str:
        for name in ["flaky"] * 39 + ["broken"]:
            tasks.run_stage(name, dt.date(2022, 4, 25), None, ["esmm"], None)
        return "not reached"

    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(warehouse))
    keeping = temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True})  # a user's default is not ours
    with pytest.raises(SchemaDrift, match="ask the sender"), embedded.session(warehouse), keeping:
        forty()
    assert attempts == ["flaky"] * 41 + ["broken"]
    states = history(warehouse, "SELECT state_type, run_count FROM task_run ORDER BY start_time")
    assert states == [("COMPLETED", 3), *[("COMPLETED", 1)] * 38, ("FAILED", 1)]
    ((state, said),) = history(
        warehouse, "SELECT state_type, message FROM flow_run JOIN flow_run_state s ON s.id = state_id"
    )
    assert (state, said.startswith("E404 SchemaDrift: exposure: item_id is text in s3://***@host")) == (
        "FAILED",
        True,
    )
    told = history(warehouse, "SELECT message FROM task_run_state")
    assert not any("hunter2" in (message or "") for (message,) in told)
    assert not (warehouse / ".prefect" / "storage").exists()  # no pickles
    assert not children("loopback.py")


@pytest.mark.flow
def test_a_day_of_the_shop_from_the_logs_to_an_answer(
    warehouse: Path,
    elsewhere: Path,
    funnelcast: Callable[..., subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole way: raw logs, `run`, `sql`, a repeat that starts no Prefect, a day without logs."""
    day = dt.date(2026, 1, 5)
    write_logs(elsewhere / "raw", [day])
    (elsewhere / "funnelcast.toml").write_text('scenario = "shop"\n[logs]\nshop = "raw"\n', "utf-8")
    ran = funnelcast("run", "--date", str(day), "--recipe", "esmm")
    assert ran.returncode == 0, ran.stderr
    assert "events/exposure" in ran.stderr
    assert "NULL_KEY" in ran.stderr
    assert cli.main(["sql", "SELECT DISTINCT dt, line FROM scores", "--format", "csv"]) == 0
    assert capsys.readouterr().out.split() == ["dt,line", f"{day + dt.timedelta(days=1)},esmm"]
    assert cli.main(["run", "--date", str(day), "--recipe", "esmm"]) == 0
    assert capsys.readouterr().err.endswith(f"INFO {day} is finished already: nothing to do\n")
    runs = history(warehouse, "SELECT name, state_type FROM flow_run")
    assert runs == [(f"daily {day} shop", "COMPLETED")]
    names = history(warehouse, "SELECT name FROM task_run ORDER BY start_time")
    stages = ["read", "view", "sample", "validate", "train", "gate", "calibrate", "score", "publish"]
    assert [name.split()[0] for (name,) in names] == stages
    missing = funnelcast("run", "--date", "2026-01-09")
    assert missing.returncode == 4
    (line,) = missing.stderr.splitlines()[1:]
    assert line.startswith("E401 MissingLog: exposure of 2026-01-09: ")


@pytest.mark.flow
def test_a_killed_run_leaves_no_server_and_is_recorded_as_crashed(warehouse: Path, elsewhere: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from flows import embedded\n"
        "with embedded.session(Path(sys.argv[1])):\n"
        "    from prefect import flow\n"
        "    @flow(name='sleeper')\n"
        "    def sleeper():\n"
        "        print('asleep', flush=True); time.sleep(120)\n"
        "    sleeper()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    sleeper = subprocess.Popen(
        [sys.executable, "-c", script, str(warehouse)], stdout=subprocess.PIPE, env=environment
    )
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == b"asleep\n"
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    sleeper.stdout.close()
    wait_until(lambda: not children(str(warehouse)) and not children("loopback.py"))
    assert history(warehouse, "SELECT state_type FROM flow_run") == [("RUNNING",)]
    with embedded.session(warehouse):
        pass
    assert history(warehouse, "SELECT state_type FROM flow_run") == [("CRASHED",)]


def test_a_run_next_door_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    with embedded._presence(tmp_path) as first, embedded._presence(tmp_path) as second:
        assert (first, second) == (True, False)
    with embedded._presence(tmp_path) as third:
        assert third is True


def test_an_api_that_cannot_start_is_an_error_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "nonsense://nowhere")
    expected = pytest.raises(embedded.NoPrefectApi, match=r"^E504 .* Next: read .*server\.log")
    with expected as caught, embedded.session(tmp_path):
        pytest.fail("must not start")
    assert caught.value.exit_code == 5


def test_the_users_api_is_not_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funnelcast: Callable[..., Any]
) -> None:
    script = (
        "import os; from pathlib import Path; from flows import embedded\n"
        f"embedded.prepare(Path({str(tmp_path)!r}))\n"
        "from prefect.settings import get_current_settings as now\n"
        "print(now().api.url, now().home, now().server.analytics_enabled)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://prefect.example/api"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.split() == ["http://prefect.example/api", str(tmp_path / ".prefect"), "False"]


def children(word: str) -> list[int]:
    """Processes whose command line holds a word, on Linux; elsewhere none is found."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            mine = str(os.getpid()) == (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if word in line and (mine or word != "loopback.py"):
            found.append(int(folder.name))
    return found


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)
