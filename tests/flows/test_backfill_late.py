"""One backfill after a late file makes anew all that follows, though one day alone was unfinished."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_logs import write_logs

from features.bookkeeping import RUNS
from flows import cli
from flows.day import run_day
from flows.house import House
from flows.request import Request
from flows.settings import Settings

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(2)]
NEW = DAYS[-1] + timedelta(days=1)


@pytest.fixture
def late(warehouse: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> House:
    """Two finished days, to the first of which a file comes; a third that was delivered and never run."""
    write_logs(elsewhere / "raw", [*DAYS, NEW])
    told = 'scenario = "shop"\nrecipes = ["esmm"]\n[logs]\nshop = "raw"\n'
    (elsewhere / "funnelcast.toml").write_text(told, "utf-8")
    house = House.open(
        Settings(warehouse=warehouse, logs={"shop": elsewhere / "raw"}, scenario="shop", recipes=("esmm",))
    )
    for day in DAYS:
        run_day(house, day, ("esmm",))
    assert cli.main(["backfill", "--stale"]) == 0
    assert capsys.readouterr().err.endswith("follows from other inputs now: nothing to do\n")
    folder = elsewhere / "raw" / "exposure" / f"dt={DAYS[0]}"
    rows = pl.read_parquet(folder / "part-0.parquet").drop_nulls().head(1)
    rows.with_columns(exposure_id=pl.lit("late")).write_parquet(folder / "part-9.parquet")
    return house


def test_j04_a_late_file_makes_the_days_that_were_run_stale_and_the_plan_says_why(
    late: House, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["backfill", *map(str, (DAYS[0], NEW)), "--dry-run", "--json"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)["days"]
    assert first["reason"] == "read: events/exposure is from another raw part-9.parquet"
    assert (second["pending"], second["stale_since"]) == ([], str(DAYS[0]))
    assert third["reason"] == f"read: events/exposure of {NEW} is not there"
    delivered = (elsewhere / "raw").rglob(f"dt={DAYS[0]}/*.parquet")
    files = [file for file in delivered if "candidate" not in str(file)]
    assert (first["files"], first["bytes"]) == (len(files), sum(file.stat().st_size for file in files))
    assert first["rows"] == sum(pl.read_parquet(file).height for file in files)
    assert Request(late, ("esmm",)).stale() == tuple(DAYS)  # the day that was never run is not


@pytest.mark.slow
@pytest.mark.flow
def test_j04_one_backfill_after_a_late_file_leaves_nothing_unfinished(
    late: House,
    funnelcast: Callable[..., subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = funnelcast("backfill", "--stale", "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert f"day 2 of 2: {DAYS[1]}" in again.stderr
    assert cli.main(["backfill", *map(str, DAYS)]) == 0
    assert capsys.readouterr().err.endswith("all 2 days are finished already: nothing to do\n")
    assert late.store.days(RUNS) == DAYS


@pytest.mark.parametrize("words", [[], ["2026-01-05"], ["--stale", "2026-01-05"]])
def test_a_range_has_two_ends_or_is_that_of_what_is_stale(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main(["backfill", *words]) == 2
    assert (
        "range: its first or last day is missing. Next: give both, or --stale alone"
        in capsys.readouterr().err
    )
