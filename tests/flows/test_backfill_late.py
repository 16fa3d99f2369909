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
from flows.settings import Settings


@pytest.mark.flow
def test_j04_one_backfill_after_a_late_file_leaves_nothing_unfinished(
    warehouse: Path,
    elsewhere: Path,
    funnelcast: Callable[..., subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    *days, new = [date(2026, 1, 5) + timedelta(days=n) for n in range(3)]
    write_logs(elsewhere / "raw", [*days, new])
    told = 'scenario = "shop"\nrecipes = ["esmm"]\n[logs]\nshop = "raw"\n'
    (elsewhere / "funnelcast.toml").write_text(told, "utf-8")
    house = House.open(
        Settings(warehouse=warehouse, logs={"shop": elsewhere / "raw"}, scenario="shop", recipes=("esmm",))
    )
    for day in days:
        run_day(house, day, ("esmm",))
    assert cli.main(["backfill", "--stale"]) == 0
    assert capsys.readouterr().err.endswith("follows from other inputs now: nothing to do\n")
    folder = elsewhere / "raw" / "exposure" / f"dt={days[0]}"
    rows = pl.read_parquet(folder / "part-0.parquet").drop_nulls().head(1)
    late = rows.with_columns(exposure_id=pl.lit("late"))
    late.write_parquet(folder / "part-9.parquet")

    assert cli.main(["backfill", *map(str, (days[0], new)), "--dry-run", "--json"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)["days"]
    assert first["reason"] == "read: events/exposure is from another raw part-9.parquet"
    assert (second["pending"], second["stale_since"]) == ([], str(days[0]))
    assert third["reason"] == f"read: events/exposure of {new} is not there"
    files = [
        file for file in (elsewhere / "raw").rglob(f"dt={days[0]}/*.parquet") if "candidate" not in str(file)
    ]
    assert (first["files"], first["bytes"]) == (len(files), sum(file.stat().st_size for file in files))
    assert first["rows"] == sum(pl.read_parquet(file).height for file in files)

    again = funnelcast("backfill", "--stale", "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert f"day 2 of 2: {days[1]}" in again.stderr
    assert cli.main(["backfill", *map(str, days)]) == 0
    assert capsys.readouterr().err.endswith("all 2 days are finished already: nothing to do\n")
    assert house.store.days(RUNS) == days  # the day that was never run is not stale


@pytest.mark.parametrize("words", [[], ["2026-01-05"], ["--stale", "2026-01-05"]])
def test_a_range_has_two_ends_or_is_that_of_what_is_stale(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main(["backfill", *words]) == 2
    assert (
        "range: its first or last day is missing. Next: give both, or --stale alone"
        in capsys.readouterr().err
    )
