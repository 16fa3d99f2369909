"""`funnelcast oracle` finds the published scores of simulated impressions and holds them to the truth."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.schemas import scores
from features.simulation import Simulation, SimulationSettings
from features.simulation.oracle import TRUTH
from flows import cli
from flows.house import House
from flows.settings import Settings

FUNNEL = SimulationSettings(impressions=300, users=60, items=20)
DAY = FUNNEL.start + timedelta(days=1)


def publish(house: House, line: str, rows: pl.DataFrame, day: timedelta = timedelta()) -> None:
    table = scores(house.scenario)
    told = rows.select(
        pl.lit(1).alias("user_id"),
        pl.lit(2).alias("item_id"),
        pl.col("impression_id").alias("request_id"),
        *TRUTH,
        pl.lit(1).alias("user_rank"),
        pl.lit(False).alias("unknown_user"),
        pl.lit(False).alias("unknown_item"),
        pl.lit("m").alias("model_version"),
        pl.lit(datetime(2026, 1, 6)).alias("features_as_of"),
    )
    with house.store.stage(table, DAY + day, "0123456789abcdef", record={}, line=line) as shards:
        empty = pl.DataFrame(table.schema.empty_table())  # an uncalibrated line: its twins are null
        whole = pl.concat(
            [empty, told.cast({k: v for k, v in empty.schema.items() if k in told.columns})], how="diagonal"
        )
        shards.write(whole.to_arrow().cast(table.schema))
    house.store.commit(shards)


def test_lines_are_told_apart_and_rows_without_a_truth_are_left_out(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["oracle"]) == 2
    assert "funnelcast simulate, then funnelcast backfill" in capsys.readouterr().err
    Simulation(FUNNEL).write(elsewhere / "simulated", [DAY])
    truth = Simulation(FUNNEL).day(DAY).truth.with_columns(pctcvr=pl.col("pctr") * pl.col("pcvr"))
    house = House.open(Settings.load(None), "simulated")
    publish(house, "right", truth)
    flat = truth.with_columns(pl.col(name).cast(pl.Float64).mean() for name in TRUTH)
    rule = flat.head(5).with_columns(impression_id=pl.lit(None, pl.String))
    publish(house, "flat", pl.concat([flat, rule]))
    publish(house, "flat", flat, timedelta(days=1))  # nobody simulated that day
    assert cli.main(["oracle", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["dt"], row["line"], row["score"]) for row in told] == [
        (str(DAY), line, score) for line in ("flat", "right") for score in ("pctcvr", "pctr", "pcvr")
    ]
    assert {row["rows"] for row in told} == {300}
    for row in told:
        assert row["skill"] == pytest.approx(float(row["line"] == "right"), abs=1e-5)
        assert row["ratio"] == pytest.approx(1, abs=1e-5)
    assert cli.main(["oracle"]) == 0
    assert "regret" in capsys.readouterr().out
