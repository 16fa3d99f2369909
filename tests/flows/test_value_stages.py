"""Values through the stages of the shop: samples, training, scores and metrics against NumPy by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl
import pytest
import shop_logs
import torch
from shop_house import open_house

from features.batches import fresh_rows
from features.bookkeeping import METRICS, MODELS
from features.errors import BadWarehouse
from features.funnel import Objective
from features.promotion import GATE
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from flows.house import House
from flows.recipes import Recipe, shop
from flows.stages import calibrate, gate, publish, read, sample, score, train
from flows.stages import view as views
from flows.stages.encode import encoder_of
from flows.stages.version import load, version_of
from models.balancing.uncertainty import Uncertainty
from models.batch import Batch
from models.entire_space.esmm import ESMM
from models.score import score_arrays
from models.towers import Towers

DAYS = [date(2026, 3, 23) + timedelta(days=n) for n in range(2)]
SPEND = Objective(
    name="spend",
    log="conversion",
    given="click",
    window=timedelta(hours=4),
    kind="value",
    value="amount_cents",
    scale=100.0,
)
WORTH = replace(SPEND, name="worth", given=None)
VALUED = replace(SCENARIO, funnel=replace(SCENARIO.funnel, objectives=(*SCENARIO.funnel, SPEND, WORTH)))


def valued() -> Recipe:
    return Recipe(
        name="valued",
        description="For a test: a day is one batch, so that its loss is that of the model before.",
        architecture=partial(Towers, layers=(8,)),
        method=ESMM(),
        balancer=Uncertainty,
        dim=4,
        batch_rows=10**6,
        dense_rate=1e-2,
        averaging=0.0,
    )


@dataclass
class Ran:
    """The warehouse after two days, and the rows that each of them learned from."""

    house: House
    rows: dict[date, pl.DataFrame]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("values")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(valued, "__module__", shop.__name__)
        patch.setattr(shop, "valued", valued, raising=False)
        shop_logs.write_logs(root / "logs", DAYS)
        house, rows = open_house(root, VALUED), {}
        for day in DAYS:
            for stage in (
                read,
                views,
                sample,
                train,
                gate,
                calibrate,
                *((score, publish) if day == DAYS[-1] else ()),
            ):
                stage.run(house, day, ("valued",))
            scanned = house.store.scan(samples(VALUED)).drop("dt")
            since = house.day_start(day)
            rows[day] = fresh_rows(scanned, VALUED, since, house.watermark(day)).collect()
        yield Ran(house, rows)


def spent(rows: pl.DataFrame, name: str = "spend") -> np.ndarray:
    return rows[f"v_{name}"].to_numpy().astype(np.float64) / 100


def test_the_gate_holds_values_to_the_error_that_the_model_before_was_evaluated_with(ran: Ran) -> None:
    told = (
        ran.house.store.scan(GATE, [DAYS[1]], line="valued").filter(check="rmse_rise", over="fresh").collect()
    )
    metrics = ran.house.store.scan(METRICS, [DAYS[1]], line="valued").collect()
    own = metrics.filter(metric="rmse", slice="all", space="impressions")
    assert dict(told.select("objective", "champion_value").rows()) == dict(
        own.select("objective", "value").rows()
    )
    rise = told["value"] / told["champion_value"] - 1
    assert told["measured"].to_list() == pytest.approx(rise.to_list())
    assert told["warn_limit"].to_list() == [0.005, 0.005]


def test_samples_hold_the_value_of_what_was_bought_after_a_click(ran: Ran) -> None:
    rows = pl.concat(ran.rows.values())
    assert (rows.filter(pl.col("v_spend") > 0)["y_click"] == 1).all()
    assert ((rows["v_spend"] > 0) == (rows["y_spend"] == 1)).all()
    assert (rows["v_spend"] > 0).sum() > 20
    assert rows["v_spend"].dtype == pl.Int64()


def test_the_loss_of_a_day_is_the_mean_squared_error_of_its_space_by_hand(ran: Ran) -> None:
    house, rows = ran.house, ran.rows[DAYS[1]]
    before = version_of(house, "valued", DAYS[0])
    assert before is not None
    told = house.store.scan(MODELS, DAYS[1:], line="valued").select("losses", "id_maps_key").collect()
    # a day's first batch is read with the id maps that the day has grown
    encoder = encoder_of(house, DAYS[1], told["id_maps_key"].item())
    line = load(house, valued(), before)

    line.reset_rows(torch.from_numpy(encoder.rows_given_after(DAYS[0])), valued().seed)
    said = line.predict(Batch.from_numpy(encoder.encode(rows))).value_BV.double().numpy()
    losses = json.loads(told["losses"].item())
    clicked = (rows["trains_spend"] & (rows["y_click"] == 1)).to_numpy()
    seen = rows["trains_worth"].to_numpy()
    assert clicked.sum() > 50
    assert losses["spend"] == pytest.approx(((said[:, 0] - spent(rows)) ** 2)[clicked].mean(), rel=1e-5)
    assert losses["worth"] == pytest.approx(((said[:, 1] - spent(rows, "worth")) ** 2)[seen].mean(), rel=1e-5)


def test_published_values_are_those_per_event_times_the_probability_of_the_event(ran: Ran) -> None:
    found = ran.house.store.scan(scores(VALUED)).collect()
    assert set(found["dt"]) == {DAYS[-1] + timedelta(days=1)}
    values = found.select("pctr", "e_spend", "e_spend_given_click", "e_worth")
    assert values.null_count().sum_horizontal().item() == 0
    pctr, e_spend, given_click, e_worth = values.cast(pl.Float64).to_numpy().T
    np.testing.assert_allclose(e_spend, pctr * given_click, rtol=1e-6)
    assert np.isfinite(e_worth).all()
    assert len(np.unique(given_click)) > 100


def test_metrics_of_a_day_are_those_of_the_model_before_in_euros(ran: Ran) -> None:
    house, rows = ran.house, ran.rows[DAYS[1]]
    before = version_of(house, "valued", DAYS[0])
    assert before is not None
    encoder = encoder_of(house, DAYS[0], before.id_maps_key)
    said = score_arrays(load(house, valued(), before), encoder.encode(rows))
    told = house.store.scan(METRICS, DAYS[1:], line="valued").filter(objective="spend", slice="all").collect()
    found = {(row["space"], row["metric"]): row for row in told.rows(named=True)}
    final = rows["trains_spend"].to_numpy()
    for space, column, inside in (
        ("impressions", "e_spend", final),
        ("given_click", "e_spend_given_click", final & (rows["y_click"] == 1).to_numpy()),
    ):
        e, y = said[column].astype(np.float64)[inside], spent(rows)[inside]
        want = {
            "rmse": np.sqrt(((e - y) ** 2).mean()),
            "mae": abs(e - y).mean(),
            "pcoc": e.mean() / y.mean(),
        }
        for name, value in want.items():
            assert found.pop((space, name))["value"] == pytest.approx(value, rel=1e-5), (space, name)
    assert found == {}


def test_another_scale_does_not_go_on_from_the_old_model(ran: Ran) -> None:
    cents = replace(VALUED.funnel, objectives=(*SCENARIO.funnel, replace(SPEND, scale=1.0), WORTH))
    house = replace(ran.house, scenario=replace(VALUED, funnel=cents))
    with pytest.raises(BadWarehouse, match=r"^E503 .*scale_K is \[0.0, 0.0, 100.0, 100.0\], expected"):
        load(house, valued(), version_of(house, "valued", DAYS[0]))


def test_a_recipe_that_publishes_the_best_scores_anew_and_trains_nothing(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of this file: the scores of the day are others afterwards."""
    house, day = ran.house, DAYS[-1]
    lines = ("valued",)
    every = house.store.scan(scores(VALUED), line="valued").collect().sort("user_id", "user_rank")
    assert not score.pending(house, day, lines)

    def best() -> Recipe:
        return replace(valued(), top=2)

    monkeypatch.setattr(best, "__module__", shop.__name__)
    monkeypatch.setattr(shop, "valued", best)
    assert not train.pending(house, day, lines)
    assert score.pending(house, day, lines)
    score.run(house, day, lines)
    publish.run(house, day, lines)
    kept = house.store.scan(scores(VALUED), line="valued").collect().sort("user_id", "user_rank")
    expected = every.filter(pl.col("user_rank") <= 2)
    names = ["user_id", "item_id", "request_id", "user_rank", "model_version"]
    assert kept.select(names).equals(expected.select(names))
    assert 0 < kept.height < every.height
