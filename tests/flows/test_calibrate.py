"""Calibration through the stages of the shop, against rows scored again by the models of before and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl
import pytest
import shop_logs
from shop_house import open_house

from features.batches import fresh_rows
from features.bookkeeping import CALIBRATION, CALIBRATORS, METRICS, MODELS
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from flows.house import House
from flows.recipes import Recipe, shop
from flows.stages import calibrate, publish, read, sample, score, train
from flows.stages import view as views
from flows.stages.encode import encoder_of
from flows.stages.promise import check_published
from flows.stages.record import StageRecord
from flows.stages.version import load, version_of
from models.balancing.static import Static
from models.calibration import Calibration
from models.entire_space.esmm import ESMM
from models.score import score_arrays
from models.towers import Towers

DAYS = [date(2026, 3, 23) + timedelta(days=n) for n in range(4)]
LINE = ("curved",)
#: Limits so low that few rows need every method.
FEW = Calibration(days=2, proof=2, tries=1, platt_from=10, isotonic_from=300)
COLUMNS = {"pctr": "impressions", "pcvr": "given_click", "pctcvr": "impressions"}


def curved(calibration: Calibration | None = FEW) -> Recipe:
    return Recipe(
        name="curved",
        description="For a test.",
        architecture=partial(Towers, layers=(8,)),
        method=ESMM(),
        balancer=Static,
        dim=4,
        batch_rows=256,
        averaging=0.0,
        calibration=calibration,
    )


def offer(patch: pytest.MonkeyPatch, calibration: Calibration | None) -> None:
    """Put the line among those of the shop."""

    def line() -> Recipe:
        return curved(calibration)

    patch.setattr(line, "__module__", shop.__name__)
    patch.setattr(shop, "curved", line, raising=False)


@dataclass
class Ran:
    """The warehouse after four days, the rows whose labels became final on each, and the stage's records."""

    house: House
    rows: dict[date, pl.DataFrame]
    fitted: dict[date, StageRecord]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        offer(patch, FEW)
        shop_logs.write_logs(root / "logs", DAYS)
        house, rows, fitted = open_house(root), {}, {}
        for day in DAYS:
            for stage in (read, views, sample, train):
                stage.run(house, day, LINE)
            (fitted[day],) = calibrate.run(house, day, LINE)
            if day in (DAYS[0], DAYS[-1]):
                score.run(house, day, LINE)
                publish.run(house, day, LINE)
            scanned = house.store.scan(samples(SCENARIO)).drop("dt")
            rows[day] = fresh_rows(scanned, SCENARIO, house.day_start(day), house.watermark(day)).collect()
        yield Ran(house, rows, fitted)


def said_before(ran: Ran, day: date) -> pl.DataFrame:
    """The rows of a day, scored again by the model of the day before as it lies in the warehouse."""
    before = version_of(ran.house, "curved", day - timedelta(days=1))
    assert before is not None
    encoder = encoder_of(ran.house, before.day, before.id_maps_key)
    arrays = encoder.encode(ran.rows[day])
    said = score_arrays(load(ran.house, curved(), before), arrays)
    unknown = (pl.Series(f"unknown_{key}", mask) for key, mask in encoder.unknown_keys(arrays).items())
    return ran.rows[day].with_columns(*(pl.Series(name, p) for name, p in said.items()), *unknown)


def inside(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows that a score speaks of, with the label as ``y``."""
    objective = "click" if column == "pctr" else "conversion"
    known = rows.filter(pl.col(f"trains_{objective}"), pl.col("y_click") == 1 if column == "pcvr" else True)
    return known.with_columns(y=f"y_{objective}")


def knots(ran: Ran, day: date, column: str) -> tuple[list[float], list[float]]:
    row = ran.house.store.scan(CALIBRATORS, [day]).filter(score=column).collect().row(0, named=True)
    return [0, *row["raw"], 1], [0, *row["calibrated"], 1]


def test_the_evidence_of_a_day_is_what_the_model_before_it_said_and_what_then_happened(ran: Ran) -> None:
    assert ran.house.store.scan(CALIBRATION, DAYS[:1]).collect().is_empty()
    for day in DAYS[1:]:
        told = ran.house.store.scan(CALIBRATION, [day]).collect()
        rows = said_before(ran, day)
        for column in COLUMNS:
            known = inside(rows, column)
            p = known[column].cast(pl.Float64)
            counted = (
                known.with_columns(bin=((p / (1 - p)).log() * 16).floor().cast(pl.Int32) + 256, p=p)
                .group_by("bin")
                .agg(rows=pl.len().cast(pl.Int64), positives=pl.col("y").sum().cast(pl.Int64), p=pl.sum("p"))
                .sort("bin")
            )
            found = told.filter(score=column).sort("bin")
            assert found.select("bin", "rows", "positives").equals(counted.drop("p"))
            np.testing.assert_allclose(found["predicted"], counted["p"], rtol=1e-12)
    assert told["rows"].sum() > 500


def test_curves_are_fitted_to_the_newest_days_and_follow_the_evidence(ran: Ran) -> None:
    store = ran.house.store
    methods = set()
    for day, known in zip(DAYS, ([], DAYS[1:2], DAYS[1:3], DAYS[2:4]), strict=True):
        told = store.scan(CALIBRATORS, [day]).collect()
        assert set(told["days"]) == {min(2, DAYS.index(day) + 1)}
        for row in told.rows(named=True):
            assert row["space"] == COLUMNS[row["score"]]
            assert row["calibrator_version"] == ran.fitted[day].key
            own = store.scan(CALIBRATION, known).filter(score=row["score"]).collect()
            rows, positives = own["rows"].sum(), own["positives"].sum()
            assert (row["rows"], row["positives"]) == (rows, positives)
            assert row["predicted"] == pytest.approx(own["predicted"].sum())
            methods.add(row["method"])
            earlier = own.filter(pl.col("dt") < day)
            before = min(earlier["positives"].sum(), (earlier["rows"] - earlier["positives"]).sum())
            if before < FEW.platt_from:
                assert (row["method"], row["raw"]) == ("identity", [])
            elif row["method"] != "withheld":
                few = min(positives, rows - positives) < FEW.isotonic_from
                assert row["method"] == ("platt" if few else "isotonic")
                fitted = np.interp(
                    (own["predicted"] / own["rows"]).to_numpy(), *knots(ran, day, row["score"])
                )
                sums = sorted((own["predicted"].sum(), positives))
                assert 0 < row["share"] <= 1
                if row["share"] == 1:
                    assert fitted @ own["rows"].to_numpy() == pytest.approx(positives, rel=1e-3)
                else:  # a part of the way
                    assert sums[0] < fitted @ own["rows"].to_numpy() < sums[1]
    assert methods >= {"identity", "platt", "isotonic"}
    assert ran.fitted[DAYS[0]].notes["evidence"] == "none yet: scores stay as they are"


def test_published_scores_are_raw_and_calibrated_by_the_curves_of_their_day(ran: Ran) -> None:
    store = ran.house.store
    first, last = (store.scan(scores(SCENARIO), [day + timedelta(days=1)]).collect() for day in DAYS[::3])
    for column in COLUMNS:
        assert first[column].equals(first[f"{column}_cal"].alias(column))
    by_hand = {
        column: np.interp(last[column].to_numpy(), *knots(ran, DAYS[-1], column)).astype(np.float32)
        for column in COLUMNS
    }
    by_hand["pctcvr"] = np.minimum(by_hand["pctcvr"], by_hand["pctr"])
    for column, expected in by_hand.items():
        assert (last[f"{column}_cal"].to_numpy() == expected).all()
    assert (last["pctr_cal"] - last["pctr"]).abs().max() > 1e-3
    assert last["calibrator_version"].unique().to_list() == [ran.fitted[DAYS[-1]].key]
    ordered = last.sort("pctr")
    assert (ordered["pctr_cal"].diff().drop_nulls() >= 0).all()
    assert check_published(ran.house) == []


def test_the_calibrated_metrics_of_a_day_know_only_the_curves_of_the_day_before(ran: Ran) -> None:
    day = DAYS[2]
    told = ran.house.store.scan(METRICS, [day]).collect()
    rows = said_before(ran, day)
    twins = {c: np.interp(rows[c].to_numpy(), *knots(ran, DAYS[1], c)).astype(np.float32) for c in COLUMNS}
    twins["pctcvr"] = np.minimum(twins["pctcvr"], twins["pctr"])
    rows = rows.with_columns(*(pl.Series(f"{c}_cal", p) for c, p in twins.items()))
    for column, space in COLUMNS.items():
        objective = "click" if column == "pctr" else "conversion"
        own = inside(rows, column).sort(column, maintain_order=True)
        size, extra = divmod(own.height, 10)
        tenths = [size + (n < extra) for n in range(10)]
        cut = {
            "all": own,
            "unknown_item": own.filter("unknown_item"),
            **{f"decile_{n + 1}": own.slice(sum(tenths[:n]), tenths[n]) for n in range(10)},
        }
        for part, known in cut.items():
            found = told.filter(objective=objective, space=space, slice=part)
            for metric, shown in (("pcoc", column), ("pcoc_cal", f"{column}_cal")):
                row = found.filter(metric=metric).row(0, named=True)
                assert (row["rows"], row["positives"]) == (known.height, known["y"].sum())
                expected = (
                    known[shown].cast(pl.Float64).sum() / known["y"].sum() if known["y"].sum() else None
                )
                assert row["value"] == (None if expected is None else pytest.approx(expected, rel=1e-6))
        p, y = own[f"{column}_cal"].cast(pl.Float64), own["y"]
        loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
        assert told.filter(objective=objective, space=space, slice="all", metric="log_loss_cal")[
            "value"
        ].item() == pytest.approx(loss, rel=1e-6)
    before = ran.house.store.scan(METRICS, DAYS[:1]).collect()
    assert before.is_empty()


def test_a_finished_day_is_found_finished(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, FEW)
    assert not calibrate.pending(ran.house, DAYS[-1], LINE)
    assert all(record.repeated for record in calibrate.run(ran.house, DAYS[-1], LINE))
    assert not train.pending(ran.house, DAYS[-1], LINE)
    assert not score.pending(ran.house, DAYS[-1], LINE)


@pytest.mark.parametrize(
    "changed", [Calibration(days=1, proof=2, tries=1, platt_from=10, isotonic_from=10**6), None]
)
def test_another_setting_scores_anew_and_trains_nothing(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, changed: Calibration | None
) -> None:
    """The last tests of this file: the scores of the day are others afterwards."""
    house, day = ran.house, DAYS[-1]
    models = house.store.scan(MODELS).collect()
    offer(monkeypatch, changed)
    assert curved(changed).settings() == curved().settings()
    assert calibrate.pending(house, day, LINE) or score.pending(house, day, LINE)
    trained = [record for record in train.run(house, day, LINE) if record.table == MODELS.name]
    calibrate.run(house, day, LINE)
    score.run(house, day, LINE)
    publish.run(house, day, LINE)
    assert all(record.repeated for record in trained)
    assert house.store.scan(MODELS).collect().equals(models)
    found = house.store.scan(scores(SCENARIO), [day + timedelta(days=1)]).collect()
    version = None if changed is None else house.store.generation(CALIBRATORS, day, line="curved")
    assert found["calibrator_version"].unique().to_list() == [None if version is None else version.key]
    assert found["pctr_cal"].null_count() == (found.height if changed is None else 0)
    assert check_published(house) == []
    told = house.store.scan(METRICS, [day]).collect()
    assert (told["metric"] == "pcoc_cal").any() == (changed is not None)
    assert replace(curved(), top=3).settings() == curved().settings()
