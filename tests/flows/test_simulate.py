"""`funnelcast simulate` and its scenario: what the stages make of the dirty logs is what truly happened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.bookkeeping import QUARANTINE
from features.schemas import events, samples
from features.simulation import Noise, Simulation, SimulationSettings
from flows import cli
from flows.house import House
from flows.settings import Settings
from flows.stages import read, sample, view

NOISE = Noise(duplicates=0.05, late=0.5, orphans=0.03, broken=0.015, replayed=0.02)
#: Conversions take two days at most, so that four days hear of all that the first one brought forth.
FUNNEL = SimulationSettings(
    impressions=900, users=60, items=20, ctr=0.4, cvr=0.5, horizon_days=2, noise=NOISE, seed=3
)
DAYS = [FUNNEL.start + timedelta(days=n) for n in range(4)]


def rows(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "**/*.parquet")


def open_house(root: Path) -> House:
    told = Settings(
        warehouse=root / "warehouse", logs={"simulated": root / "logs"}, scenario="simulated", threads=1
    )
    return House.open(told)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("simulated")
    Simulation(FUNNEL).write(root / "logs", DAYS)
    opened = open_house(root)
    for day in DAYS:
        read.run(opened, day, ())
        if day in (DAYS[0], DAYS[-1]):  # the last day makes the labels of the first one anew
            view.run(opened, day, ())
            sample.run(opened, day, ())
    return opened


@pytest.mark.slow
def test_labels_are_in_the_end_what_truly_happened_once_for_every_impression(house: House) -> None:
    made = house.store.scan(samples(house.scenario)).filter(pl.col("dt") == DAYS[0]).collect()
    truth = rows(house.logs / "truth" / f"dt={DAYS[0]}")
    assert made.height == truth.height == FUNNEL.impressions
    both = made.join(truth, on="impression_id", validate="1:1", suffix="_true")
    assert both.height == FUNNEL.impressions
    assert both["final_click"].all()
    assert not both["final_conversion"].any()  # its window is longer than the longest delay
    assert (both["y_click"] == both["clicked"].cast(pl.Int64)).all()
    converted = both["clicked"] & both["converts"]
    assert (both["y_conversion"] == converted.cast(pl.Int64)).all()
    assert 100 < converted.sum() < 300
    delay = (both["conversion_at"] - both["click_at"]).dt.total_microseconds() / 1e6
    assert (delay - both["delay_s"]).abs().max() < 1e-3  # type: ignore[operator]


def test_the_dirt_of_a_day_is_kept_out_and_what_it_copies_is_taken_once(tmp_path: Path) -> None:
    Simulation(FUNNEL).write(tmp_path / "logs", DAYS[:1])
    opened = open_house(tmp_path)
    read.run(opened, DAYS[0], ())
    check(opened, DAYS[:1])


@pytest.mark.slow
def test_every_row_of_the_dirt_is_kept_out_under_its_reason(house: House) -> None:
    assert check(house, DAYS) > 0


def check(house: House, days: list[date]) -> int:
    """Hold what was read to the raw files; how many rows came too late."""
    kept, late = house.store.scan(QUARANTINE).collect(), 0
    for source, key in (("exposure", "exposure_id"), ("click", "event_id"), ("conversion", "event_id")):
        told = pl.concat(
            pl.read_parquet(house.logs / source / f"dt={day}" / "*.parquet").with_columns(dt=pl.lit(day))
            for day in days
        )
        broken = pl.col(key).str.starts_with("x")
        old = ~broken & (pl.from_epoch("ts_us", "us").dt.date() < pl.col("dt") - pl.duration(days=1))
        reason = kept.filter(pl.col("origin") == f"read.{source}")["reason"]
        assert reason.is_in(["NULL_KEY", "TIME_OUT_OF_RANGE"]).sum() == told.select(broken.sum()).item()
        assert (reason == "OUTSIDE_DELIVERY").sum() == told.select(old.sum()).item()
        typed = house.store.scan(events(house.scenario.source(source))).collect().height
        assert 0 < typed < told.height
        assert typed == told.filter(~broken & ~old)[key].n_unique()
        late += told.select(old.sum()).item()
    assert kept["reason"].is_in(["NULL_KEY", "TIME_OUT_OF_RANGE"]).any()
    return late


def test_the_command_writes_the_days_it_is_asked_for_and_goes_on(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate", "--impressions", "300", "--drift", "fast", "--set", "selection=0.8", "--noise", "0"]
    assert cli.main([*words, "--days", "2"]) == 0
    assert "funnelcast backfill 2026-01-05 2026-01-06 --scenario simulated" in capsys.readouterr().out
    assert cli.main([*words, "--days", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == ["2026-01-07"]
    clean = replace(SimulationSettings.of_size(300).drifting("fast"), selection=0.8, noise=Noise().times(0))
    asked = Simulation(clean).day(clean.start)
    assert rows(elsewhere / "simulated" / "truth" / "dt=2026-01-05").equals(asked.truth)
    assert rows(elsewhere / "simulated" / "exposure" / "dt=2026-01-05").height == 300


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "selektion=1"], "there is no dial 'selektion'"),
        (["--set", "selection=much"], "'much' is no number"),
        (["--set", "selection=3"], "selection: 3.0 is not between -1 and 1"),
        (["--start", "today"], "write it as 2026-01-05"),
    ],
)
def test_a_dial_that_cannot_be_meant_is_refused(
    words: list[str], said: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_the_whole_job_on_simulated_days_ends_in_scores_that_the_oracle_judges(
    warehouse: Path, funnelcast: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    own = {"FUNNELCAST_WAREHOUSE": str(warehouse), "OMP_NUM_THREADS": "1"}
    told = []
    for words in (
        ("simulate", "--days", "2", "--impressions", "400"),
        ("backfill", "2026-01-05", "2026-01-06", "--scenario", "simulated"),
        ("check", "--scenario", "simulated"),
        ("oracle", "--json"),
    ):
        done = funnelcast(*words, **own)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    # the scores of 2026-01-07 are published too, and nobody simulated that day
    found = pl.DataFrame(json.loads(told[-1]))
    assert found["dt"].unique().to_list() == ["2026-01-06"]
    assert found["rows"].unique().to_list() == [400]
    assert set(found["line"]) == {"esmm", "ple"}
    assert set(found["score"]) == {"pctr", "pcvr", "pctcvr"}
    assert found["regret"].is_between(0, 5, closed="none").all()
