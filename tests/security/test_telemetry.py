"""Nothing of us, and of what we import, reports home unless the user says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from features.engine import Limits, connect

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import os, sys
from pathlib import Path
from flows import embedded
embedded.prepare(Path(sys.argv[1]))
from prefect._internal.analytics.enabled import is_telemetry_enabled
from prefect.settings import get_current_settings
print(os.environ["DO_NOT_TRACK"], is_telemetry_enabled(), get_current_settings().server.analytics_enabled)
"""


def test_prefect_reports_nothing_by_default(tmp_path: Path) -> None:
    """Asked of Prefect itself; that it runs in CI, which would switch it off too, it is not told."""
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    shown = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path)],
        env={**own, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.strip() == "1 False False"


def test_scheduled_runs_and_the_servers_of_the_readme_report_nothing() -> None:
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    for deployment in written["deployments"]:
        assert deployment["work_pool"]["job_variables"]["env"]["DO_NOT_TRACK"] == "1"
    readme = (ROOT / "README.md").read_text("utf-8")
    starts = [
        block
        for block in re.findall(r"^```\w*$(.*?)^```$", readme, re.S | re.M)
        if "prefect server start" in block
    ]
    assert starts
    for block in starts:
        before = block.partition("prefect server start")[0]
        assert "DO_NOT_TRACK=1" in before
        assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in before


def test_duckdb_fetches_nothing(tmp_path: Path) -> None:
    """An extension is downloaded from DuckDB's servers, which count it."""
    limits = Limits(memory="100MB", threads=1, scratch=tmp_path)
    with connect(limits) as connection:
        setting = connection.sql("SELECT current_setting('autoinstall_known_extensions')").fetchall()
        assert setting == [(False,)]
        with pytest.raises(duckdb.Error):
            connection.sql("FROM read_parquet('https://127.0.0.1:1/x.parquet')")
