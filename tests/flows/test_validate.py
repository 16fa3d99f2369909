"""Three days of the shop, held to their contracts, their promises, each other and their labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_house import open_house
from shop_logs import write_logs

from features.bookkeeping import QUARANTINE
from features.errors import BrokenPromise, TooManyQuarantined
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.schemas import events, samples, scores, view
from features.staging import Staged
from features.store import Store
from features.validation.drift import DRIFT
from flows.house import House
from flows.stages import read, sample, validate
from flows.stages import view as views
from flows.stages.keep import keep
from flows.stages.promise import check_published, hold, tables
from flows.stages.settle import Built, Plan, live

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(3)]
SAMPLES = samples(SCENARIO)
(PROFILE,) = (one for one in SCENARIO.views if one.name == "item_profile")


def walk(house: House, days: list[date]) -> None:
    for day in days:
        for stage in (read, views, sample):
            stage.run(house, day, ())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two quiet days; on the third, everybody searches."""
    root = tmp_path_factory.mktemp("shop")
    write_logs(root / "logs", DAYS)
    for file in (root / "logs" / "exposure" / f"dt={DAYS[2]}").glob("*.parquet"):
        pl.read_parquet(file).with_columns(surface=pl.lit("search")).write_parquet(file)
    house = open_house(root)
    walk(house, DAYS)
    return house


def with_prices(**limits: object) -> Scenario:
    """The shop, whose products have prices within limits."""
    told = tuple(replace(f, **limits) if f.name == "price" else f for f in PROFILE.features)  # type: ignore[arg-type]
    changed = replace(PROFILE, features=told)
    return replace(SCENARIO, views=tuple(changed if v is PROFILE else v for v in SCENARIO.views))


def catalogue(house: House, prices: dict[str, float]) -> tuple[Plan, Callable[[], Built]]:
    """A snapshot of the products' view on a day of its own, with these prices."""
    (profile,) = (one for one in house.scenario.views if one.name == PROFILE.name)
    table = view(profile, house.scenario)
    empty = pl.DataFrame(table.schema.empty_table())
    names = list(prices)
    columns = {"item_id": names, "price": [prices[name] for name in names]}
    rows = pl.DataFrame(
        {name: columns.get(name, [None] * len(names)) for name in empty.columns}, schema=empty.schema
    )
    plan = Plan(
        stage="view", table=table, day=date(2026, 3, 1), inputs={"prices": str(sorted(prices.items()))}
    )
    return plan, lambda: Built(rows=rows, rows_in=rows.height)


def test_what_a_quiet_shop_publishes_keeps_every_contract_and_every_promise(shop: House) -> None:
    assert check_published(shop) == []
    live_tables = {table.name for table in tables(shop) if shop.store.snapshot(table).files}
    assert {"samples", "quarantine", "events/click", "rollups/user", PROFILE.table} <= live_tables


def test_a_stricter_contract_finds_in_the_published_tables_what_is_counted_by_hand(shop: House) -> None:
    prices = shop.store.scan(view(PROFILE, SCENARIO)).collect()["price"]
    sold = shop.store.scan(SAMPLES).collect()["price"]
    limit = sorted(prices.drop_nulls())[len(prices) // 2]
    strict = replace(shop, scenario=with_prices(range=(0.0, limit)))
    dear = (prices > limit).sum()
    assert 0 < dear < prices.len()
    found = {one.check: one.offenders for one in check_published(strict)}
    assert found == {
        f"contract of {PROFILE.table}: price|max": dear,
        "contract of samples: price|max": (sold > limit).sum(),
    }


def test_every_feature_and_label_of_a_day_is_compared_with_the_days_before(
    shop: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "TRAILING", 2)  # the third day is the first with a whole reference
    for number, day in enumerate(DAYS):
        assert validate.pending(shop, day, ())
        with caplog.at_level(logging.WARNING, "funnelcast"):
            (record, _) = validate.run(shop, day, ())
        assert record.notes["reference_days"] == [str(before) for before in DAYS[:number]]
        found = shop.store.scan(DRIFT, [day]).collect()
        assert set(found.filter(kind="feature")["name"]) == {f.name for f in SCENARIO.features}
        assert set(found.filter(kind="label")["name"]) == set(SCENARIO.funnel.names)
        assert record.rows_out == found.height
        assert found["reference_days"].unique().to_list() == [number]
        if number == 0:
            assert found["psi"].null_count() == found.height
    quiet, odd = (shop.store.scan(DRIFT, [day]).collect() for day in DAYS[1:])
    assert quiet.filter(name="surface")["psi"].item() < 0.02
    assert odd.filter(name="surface")["psi"].item() > 0.25
    assert odd.filter(name="user_id")["rows"].item() == shop.store.generation(SAMPLES, DAYS[2]).rows  # type: ignore[union-attr]
    assert quiet.filter(kind="label", name="click")["psi"].item() < 0.02
    warned = [line for line in caplog.messages if line.startswith(str(DAYS[2]))]
    assert any("PSI from 0.25 for" in line and "surface" in line for line in warned)
    assert not any("PSI" in line for line in caplog.messages if line not in warned)


def test_a_day_that_was_compared_is_left_alone_until_its_samples_change(shop: House) -> None:
    for day in DAYS:
        validate.run(shop, day, ())
    before = shop.store.snapshot(DRIFT)
    for day in DAYS:
        assert not validate.pending(shop, day, ())
        (record, _) = validate.run(shop, day, ())
        assert record.repeated
    assert shop.store.snapshot(DRIFT) == before
    wider = replace(shop, scenario=replace(SCENARIO, skew=SCENARIO.skew * 2))
    assert validate.pending(wider, DAYS[0], ())


def test_rows_out_of_range_leave_for_quarantine_and_are_counted(tmp_path: Path) -> None:
    house = open_house(tmp_path, with_prices(range=(0.0, 100.0)))
    prices = {f"p{n:03d}": float(n) for n in range(104)}
    plan, build = catalogue(house, prices)
    record = keep(house, plan, build)
    assert (record.rows_in, record.rows_out, record.quarantined) == (104, 101, {"PRICE_MAX": 3})
    left = house.store.scan(plan.table, [plan.day]).collect()
    assert left["item_id"].to_list() == sorted(prices)[:101]
    refused = house.store.scan(QUARANTINE, [plan.day]).collect()
    assert refused["origin"].unique().to_list() == ["rule.features.item_profile"]
    assert refused["reason"].to_list() == ["PRICE_MAX"] * 3
    assert [json.loads(text)["price"] for text in refused["row_text"]] == [101.0, 102.0, 103.0]
    assert check_published(house) == []
    assert keep(house, plan, build).repeated


def test_a_corrected_day_takes_its_rows_back_out_of_quarantine(tmp_path: Path) -> None:
    house = open_house(tmp_path, with_prices(range=(0.0, 100.0)))
    wrong = {f"p{n:03d}": float(n) for n in range(104)}
    keep(house, *catalogue(house, wrong))
    record = keep(house, *catalogue(house, {name: min(price, 100) for name, price in wrong.items()}))
    assert (record.rows_out, record.quarantined) == (104, {})
    assert house.store.scan(QUARANTINE).collect().is_empty()


def test_more_refused_rows_than_allowed_stop_the_day_with_nothing_changed(tmp_path: Path) -> None:
    house = open_house(tmp_path, with_prices(range=(0.0, 100.0)))
    plan, build = catalogue(house, {f"p{n:03d}": 60.0 * n for n in range(3)})
    with pytest.raises(TooManyQuarantined, match=r"more than 5.0% of the rows.*'price': 120.0.*PRICE_MAX"):
        keep(house, plan, build)
    assert house.store.snapshot(plan.table).files == house.store.snapshot(QUARANTINE).files == ()


def test_a_row_that_we_made_wrong_fails_and_what_was_live_stays(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    good, build = catalogue(house, {"a": 1.0, "b": 2.0})
    keep(house, good, build)
    plan, twice = catalogue(house, {"a": 1.0, "b": 3.0})
    rows = twice().rows
    assert isinstance(rows, pl.DataFrame)
    doubled = Built(rows=pl.concat([rows, rows.tail(1)]))
    with pytest.raises(BrokenPromise) as told:
        keep(house, plan, lambda: doubled)
    assert str(told.value) == (
        "E405 BrokenPromise: table features/item_profile, rule grain: 1 rows break the rule that no two "
        "rows have the same grain; first: dt=2026-03-01, item_id=b. Next: nothing was committed; correct "
        "the input or the code and run the day again."
    )
    assert live(house.store, good) is not None
    assert live(house.store, plan) is None


def test_a_run_that_dies_between_quarantine_and_table_ends_in_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = {f"p{n:03d}": float(n) for n in range(104)}

    def files(house: House) -> dict[str, bytes]:
        return {
            str(file.path): (house.store.folder(table) / str(file.path)).read_bytes()
            for table in (view(PROFILE, SCENARIO), QUARANTINE)
            for file in house.store.snapshot(table).files
        }

    houses = [open_house(tmp_path / name, with_prices(range=(0.0, 100.0))) for name in ("whole", "killed")]
    keep(houses[0], *catalogue(houses[0], prices))
    commit = Store.commit
    with monkeypatch.context() as patch:

        def dies(self: Store, staged: Staged) -> object:
            if staged.table.name == PROFILE.table:
                raise KeyboardInterrupt
            return commit(self, staged)

        patch.setattr(Store, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            keep(houses[1], *catalogue(houses[1], prices))
    assert len(files(houses[1])) == 1
    keep(houses[1], *catalogue(houses[1], prices))
    assert files(houses[0]) == files(houses[1])
    assert len(files(houses[0])) == 2


def test_F51_a_feature_that_knows_the_click_is_refused_with_the_samples(tmp_path: Path) -> None:
    """The log of a careless team: the place is written when the click is, and is 1 where there was one."""
    root = tmp_path
    write_logs(root / "logs", DAYS[:2])
    plain = open_house(root)
    walk(plain, DAYS[:1])
    clicked = plain.store.scan(SAMPLES).filter(y_click=1).select("impression_id").collect().to_series()
    for file in (root / "logs" / "exposure" / f"dt={DAYS[0]}").glob("*.parquet"):
        raw = pl.read_parquet(file)
        told = pl.col("exposure_id").is_in(clicked.implode()).cast(pl.Int64) + 1
        raw.with_columns(position=told).write_parquet(file)
    before = plain.store.snapshot(SAMPLES)
    read.run(plain, DAYS[0], ())
    views.run(plain, DAYS[0], ())
    with pytest.raises(BrokenPromise, match=r"feature position: it alone tells the \d+ positives of click"):
        sample.run(plain, DAYS[0], ())
    assert plain.store.snapshot(SAMPLES) == before


def test_F51_a_feature_that_nearly_knows_the_click_is_named_with_its_figure(tmp_path: Path) -> None:
    write_logs(tmp_path / "logs", DAYS[:1])
    house = open_house(tmp_path)
    walk(house, DAYS[:1])
    clicked = house.store.scan(SAMPLES).filter(y_click=1).select("impression_id").collect().to_series()
    for file in (tmp_path / "logs" / "exposure" / f"dt={DAYS[0]}").glob("*.parquet"):
        raw = pl.read_parquet(file).with_row_index("nth")
        told = pl.col("exposure_id").is_in(clicked.implode()) ^ (pl.col("nth") % 50 == 0)
        raw.with_columns(position=told.cast(pl.Int64) + 1).drop("nth").write_parquet(file)
    for stage in (read, views, sample):
        stage.run(house, DAYS[0], ())
    (record, _) = validate.run(house, DAYS[0], ())
    warnings = record.notes["warnings"]
    assert isinstance(warnings, list)
    (leak,) = [text for text in warnings if text.startswith("leak?") and "ranks click" in text]
    assert leak.startswith("leak? position alone ranks click with AUC 0.9")


def test_a_sample_that_no_log_tells_of_is_refused(shop: House) -> None:
    day = DAYS[1]
    rows = shop.store.scan(SAMPLES, [day]).drop("dt").collect()
    strange = rows.with_columns(
        pl.when(pl.col("impression_id") == rows["impression_id"][7])
        .then(pl.lit("made up"))
        .otherwise(pl.col("impression_id"))
        .alias("impression_id")
    )
    with shop.store.stage(SAMPLES, day, "0" * 16, record={}) as shards:
        shards.write(strange)
    with pytest.raises(BrokenPromise, match=r"check checks/samples_impression_known.*: 1 rows.*made up"):
        hold(shop, SAMPLES, [shards.staged])


def test_a_score_of_a_stranger_is_refused(shop: House) -> None:
    day = DAYS[2]
    shown = shop.store.scan(events(SCENARIO.impressions), [DAYS[1]]).collect()
    clicks = shop.store.scan(events(SCENARIO.source("click")), DAYS[:2]).collect()
    table = scores(SCENARIO)
    empty = pl.DataFrame(table.schema.empty_table())
    row = {name: 0.25 for name in empty.columns if empty.schema[name].is_float()} | {
        "item_id": clicks["item_id"][0],
        "user_rank": 1,
        "unknown_user": False,
        "unknown_item": False,
        "model_version": "none",
        "calibrator_version": "none",
        "features_as_of": shop.day_start(day),
    }
    users = [shown["user_id"][0], shown["user_id"].max() + 1]  # type: ignore[operator]
    rows = pl.DataFrame(
        [dict.fromkeys(empty.columns) | row | {"user_id": user} for user in users], empty.schema
    )
    with shop.store.stage(table, day, "0" * 16, record={}, line="esmm") as shards:
        shards.write(rows)
    with pytest.raises(BrokenPromise, match=rf"checks/scores_among_candidates: 1 rows.*user_id={users[1]}"):
        hold(shop, table, [shards.staged])
