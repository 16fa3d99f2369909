"""F19, F45: a day without impressions, one on which nobody buys, one on which nobody clicks."""

from __future__ import annotations

import calendar
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from fault_house import FIRST, LINES, SECOND, delivery, open_house, published, rewrite

from features.bookkeeping import CALIBRATION, METRICS, MODELS, RUNS
from features.funnel import Funnel
from features.promotion import GATE
from features.scenario import Scenario
from features.scenarios.shop import EXPOSURE, FUNNEL, SCENARIO
from features.schemas import events, samples, scores
from features.validation.bands import Band
from flows.day import pending, run_day
from flows.house import House
from flows.stages.record import StageRecord
from flows.stages.unlearned import untaught

DAY = timedelta(days=1)
THIRD = SECOND + DAY


def at_once() -> Scenario:
    """The shop, where a purchase follows within the hour, and one day is enough to know the usual rate."""
    conversion = replace(
        FUNNEL["conversion"], window=timedelta(hours=1), reversals=None, reversible=timedelta(0)
    )
    funnel = Funnel((FUNNEL["click"], conversion), click="click", conversion="conversion")
    band = Band(rule="positives", level="warn", low=0.5, high=2.0, least=1)
    return replace(SCENARIO, funnel=funnel, bands=(band,))


def purchases(clicks: pl.DataFrame) -> pl.DataFrame:
    """A purchase five minutes after every second click."""
    own = (
        clicks.drop_nulls(["click_id", "user_id", "sku"]).unique("click_id").sort("click_id").gather_every(2)
    )
    return own.filter(pl.col("ts_s") < 2**32).select(
        pl.col("click_id").alias("order_id"),
        "user_id",
        "sku",
        ts_us=(pl.col("ts_s") + 300) * 1_000_000,
        amount_cents=pl.lit(100, pl.Int64),
    )


@pytest.fixture(scope="module")
def bought(first_day: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A day on which every second click is followed by a purchase; on the next, nobody buys."""
    root = tmp_path_factory.mktemp("quiet")
    shutil.copytree(first_day / "logs", root / "logs")
    house = replace(open_house(root), scenario=at_once())
    # The next day learns the last hours of this one; they are quiet too, so that it has no positive at all.
    evening = calendar.timegm((FIRST.year, FIRST.month, FIRST.day, 18, 0, 0))
    rewrite(delivery(house, "click", FIRST), lambda rows: rows.filter(pl.col("ts_s") < evening))
    purchases(pl.read_parquet(delivery(house, "click", FIRST))).write_parquet(
        delivery(house, "conversion", FIRST)
    )
    rewrite(delivery(house, "conversion", SECOND), pl.DataFrame.clear)
    run_day(house, FIRST, LINES)
    return house


@pytest.fixture(scope="module")
def nobody_buys(bought: House) -> Iterator[tuple[House, tuple[StageRecord, ...], list[str]]]:
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("funnelcast").addHandler(handler)
    try:
        yield bought, run_day(bought, SECOND, LINES), warned
    finally:
        logging.getLogger("funnelcast").removeHandler(handler)


def metrics(house: House, objective: str) -> dict[tuple[str, str], tuple[float | None, int, int]]:
    """By space and metric of the second day: value, rows, positives."""
    rows = house.store.scan(METRICS, [SECOND]).filter(objective=objective, slice="all").collect()
    columns = ("space", "metric", "value", "rows", "positives")
    return {(space, metric): told for space, metric, *told in rows.select(columns).rows()}  # type: ignore[misc]


def newly_final(house: House) -> dict[str, pl.DataFrame]:
    """Samples whose label became final on the second day: of the hours before it, and all but its last."""
    shown = house.store.scan(samples(SCENARIO), [FIRST, SECOND]).collect()
    hours = (pl.col("exposed_at") - house.day_start(SECOND)).dt.total_microseconds() / 3.6e9
    open_for = {"click": 2, "conversion": 3}  # windows of an hour each, and an hour of lateness
    return {n: shown.filter((hours >= -late) & (hours < 24 - late)) for n, late in open_for.items()}


def losses(house: House, day: object) -> dict[str, float | None]:
    told: dict[str, float | None] = json.loads(house.store.scan(MODELS, [day]).collect()["losses"].item())  # type: ignore[list-item]
    return told


def evidence(house: House) -> dict[str, int]:
    """Rows of the second day that calibration is fitted to, by joint score."""
    told = house.store.scan(CALIBRATION, [SECOND]).filter(space="impressions").collect()
    return dict(told.group_by("score").agg(pl.col("rows").sum()).rows())


def test_F45_where_nobody_buys_clicks_are_learned_purchases_are_not_and_their_auc_is_undefined(
    nobody_buys: tuple[House, tuple[StageRecord, ...], list[str]],
) -> None:
    house, records, warned = nobody_buys
    conversion, click = metrics(house, "conversion"), metrics(house, "click")
    for space in ("impressions", "given_click"):
        value, rows, positives = conversion[space, "auc"]
        assert (value, positives) == (None, 0)
        assert rows > 100
    assert click["impressions", "auc"][0] > 0.5  # type: ignore[operator]
    values = house.store.scan(METRICS, [SECOND]).collect()["value"].drop_nulls()
    assert values.is_finite().all()
    # The purchases of the first day were learned, the missing ones of the second were not.
    assert losses(house, FIRST)["conversion"] is not None
    assert losses(house, SECOND)["conversion"] is not None  # of the last hours of the first day
    assert losses(house, SECOND)["click"] is not None
    (model,) = (r for r in records if r.table == MODELS.name)
    assert model.notes["untaught"] == {"conversion": [str(SECOND)]}
    final = newly_final(house)
    learned = {"click": final["click"].height, "conversion": final["conversion"].filter(dt=FIRST).height}
    assert model.notes["trained"] == learned
    assert 100 < learned["conversion"] < learned["click"] / 4
    assert evidence(house) == {"pctr": learned["click"], "pctcvr": learned["conversion"]}
    # Nor will its last hours, whose labels become final in the run after it.
    assert untaught(house, THIRD) == {"conversion": [SECOND]}
    assert f"esmm of {SECOND}: not learned, no label is positive: conversion of {SECOND}" in warned
    assert any(line.startswith(f"{SECOND}: positives.conversion: 0, expected 0.") for line in warned)
    assert house.store.days(scores(SCENARIO))[-1] == THIRD


def test_the_gate_measures_no_label_that_was_not_learned(
    nobody_buys: tuple[House, tuple[StageRecord, ...], list[str]],
) -> None:
    house, records, _ = nobody_buys
    told = house.store.scan(GATE, [SECOND]).filter(check="auc_drop", over="fresh", slice="all").collect()
    (model,) = (r for r in records if r.table == MODELS.name)
    per_impression = told.filter(space="impressions")
    assert dict(per_impression.select("objective", "rows").rows()) == model.notes["trained"]


def test_F45_where_nobody_clicks_nothing_of_the_day_is_learned_and_it_completes(
    nobody_buys: tuple[House, tuple[StageRecord, ...], list[str]], tmp_path: Path
) -> None:
    shutil.copytree(nobody_buys[0].logs.parent, tmp_path, dirs_exist_ok=True)
    house = replace(open_house(tmp_path), scenario=at_once())
    rewrite(delivery(house, "click"), pl.DataFrame.clear)
    records = run_day(house, SECOND, LINES)
    (model,) = (r for r in records if r.table == MODELS.name)
    assert model.notes["untaught"] == {"click": [str(SECOND)], "conversion": [str(SECOND)]}
    assert metrics(house, "click")["impressions", "auc"][0] is None
    assert metrics(house, "conversion")["impressions", "auc"][0] is None
    learned = {name: rows.filter(dt=FIRST).height for name, rows in newly_final(house).items()}
    assert model.notes["trained"] == learned
    assert evidence(house) == {"pctr": learned["click"], "pctcvr": learned["conversion"]}
    assert house.store.days(scores(SCENARIO))[-1] == THIRD


def test_F19_a_day_without_impressions_is_kept_as_one_and_neither_learned_nor_published(
    nobody_buys: tuple[House, tuple[StageRecord, ...], list[str]],
) -> None:
    house, _, warned = nobody_buys
    for folder in house.logs.glob(f"*/dt={SECOND}"):
        for file in folder.iterdir():
            there = house.logs / folder.parent.name / f"dt={THIRD}" / file.name
            there.parent.mkdir(parents=True, exist_ok=True)
            rows = pl.read_parquet(file)
            (rows if folder.parent.name == "item" else rows.clear()).write_parquet(there)
    before = published(house)
    records = run_day(house, THIRD, LINES)
    assert f"exposure of {THIRD} holds no row: the day is neither learned nor published" in warned
    assert published(house) == before  # no model, no metrics, no scores: what was fresh stays so
    for table in (events(EXPOSURE), samples(SCENARIO)):
        found = house.store.generation(table, THIRD)
        assert found is not None
        assert found.rows == 0
    assert {r.stage for r in records} == {"read", "view", "sample", "validate"}
    entered = house.store.scan(RUNS, [THIRD]).filter(state="finished", table=EXPOSURE.table).collect()
    assert entered.select("rows_in", "rows_out").rows() == [(0, 0)]
    assert pending(house, THIRD, LINES) == ()
    assert all(r.repeated for r in run_day(house, THIRD, LINES))
