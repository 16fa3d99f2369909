"""The command line: help, exit codes, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from features.errors import SchemaDrift
from flows import cli

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = (
    "demo",
    "run",
    "backfill",
    "status",
    "features",
    "sql",
    "check",
    "verify",
    "maintain",
    "simulate",
    "oracle",
    "sweep",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_one_can_copy(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    examples = shown.partition("Examples:\n")[2].splitlines()
    assert any(line.strip().startswith(f"funnelcast {command}") for line in examples)
    assert "--config" in shown


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in (*COMMANDS, "explain"))


def test_help_and_sql_import_neither_torch_nor_prefect(tmp_path: Path) -> None:
    script = (
        "import sys; from flows.cli import main; main(['run', '--help']); main(['sql', 'SELECT 1']); "
        "print(sorted({'torch', 'prefect', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "funnelcast run: Missing option '--date'"),
        (["run", "--dat", "x"], "No such option: --dat"),
        (["rnu"], "No such command 'rnu'"),
        (["run", "--date", "25.04.2022"], "date: '25.04.2022' is no date. Next: write it as 2022-04-25."),
        (["run", "--date", "2022-04-25", "--recipe", "esm"], "did you mean 'esmm'?"),
        (["run", "--date", "2022-04-25", "--scenario", "kuairend"], "kuairend"),
        (["backfill", "2022-04-26", "2022-04-25"], "range: 2022-04-25 is before 2022-04-26"),
        (["run", "--date", "2022-04-25", "--config", "none.toml"], "none.toml: no such settings file"),
        (["sql", "SELECT 1"], "nothing is published yet"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E201 UsageError: ")
    assert said in line
    assert not (elsewhere / "warehouse" / ".prefect").exists()


def test_a_day_that_is_not_over_is_refused(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--date", str(date.today() + timedelta(days=2))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E201 UsageError: ")


def test_an_unusable_warehouse_exits_5(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "file").write_text("not a folder", "utf-8")
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(elsewhere / "file"))
    assert cli.main(["run", "--date", "2022-04-25"]) == 5
    assert "E503 BadWarehouse: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            SchemaDrift("exposure", "item_id is text at s3://a:b@h", "ask"),
            4,
            "E404 SchemaDrift: exposure: item_id",
        ),
        (ZeroDivisionError("by\nzero"), 1, "E000 ZeroDivisionError: by zero. Next: the same with --debug."),
        (KeyboardInterrupt(), 130, "Interrupted. The same command again continues where it stopped."),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_whatever_is_raised_ends_in_its_exit_code(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    said: str,
    debug: bool,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("flows.house.House.open", fail)
    assert cli.main(["check", *(["--debug"] if debug else [])]) == status
    shown = capsys.readouterr().err
    assert said in shown.splitlines()[-1]
    assert ("Traceback" in shown) is (debug and status != 130)
    assert "a:b@" not in shown


def test_errors_for_machines_are_json(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sql", "SELECT 1", "--json"]) == 2
    shown = json.loads(capsys.readouterr().err)
    assert shown["exit_code"] == 2
    assert shown["error"].startswith("E201 UsageError: ")


def test_the_module_is_the_command(funnelcast: Run) -> None:
    done = funnelcast("run", "--date", "soon")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("E201 UsageError: date: 'soon' is no date")
