"""One backfill after a late file makes anew all that follows, though one day alone was unfinished."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_logs import write_logs

from flows import cli
from flows.day import run_day
from flows.house import House
from flows.settings import Settings


@pytest.mark.flow
def test_j04_one_backfill_after_a_late_file_leaves_nothing_unfinished(
    warehouse: Path,
    elsewhere: Path,
    funnelcast: Callable[..., subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    days = [date(2026, 1, 5) + timedelta(days=n) for n in range(2)]
    write_logs(elsewhere / "raw", days)
    told = 'scenario = "shop"\nrecipes = ["esmm"]\n[logs]\nshop = "raw"\n'
    (elsewhere / "funnelcast.toml").write_text(told, "utf-8")
    command = ["backfill", *map(str, days)]
    house = House.open(
        Settings(warehouse=warehouse, logs={"shop": elsewhere / "raw"}, scenario="shop", recipes=("esmm",))
    )
    for day in days:
        run_day(house, day, ("esmm",))
    folder = elsewhere / "raw" / "exposure" / f"dt={days[0]}"
    rows = pl.read_parquet(folder / "part-0.parquet").drop_nulls().head(1)
    late = rows.with_columns(exposure_id=pl.lit("late"))
    late.write_parquet(folder / "part-9.parquet")
    again = funnelcast(*command)
    assert again.returncode == 0, again.stderr
    assert f"day 2 of 2: {days[1]}" in again.stderr
    assert cli.main(command) == 0
    assert capsys.readouterr().err.endswith("all 2 days are finished already: nothing to do\n")
