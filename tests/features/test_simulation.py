"""The simulated funnel is what its settings say: rates, bias, drift, newcomers, shocks, delays, dirt."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from features.errors import UsageError
from features.simulation import Noise, SimulationSettings
from features.simulation.block import Block, block, catalogue
from features.simulation.delays import draw_delays, known_share, slow_means
from features.simulation.population import bounds, window
from features.simulation.world import promoted, world

CLEAN = Noise(duplicates=0, late=0, orphans=0, broken=0, replayed=0)
LARGE = SimulationSettings(
    impressions=60_000, users=12_000, items=8_000, ctr=0.3, cvr=0.3, noise=CLEAN, seed=3
)
SMALL = SimulationSettings(impressions=3_000, users=300, items=80, seed=5, horizon_days=3)
DAY = LARGE.start + timedelta(days=2)
KEYS = {"exposure": "exposure_id", "click": "event_id", "conversion": "event_id"}


@pytest.fixture(scope="module")
def clean() -> Block:
    return block(LARGE, DAY, 0)


@pytest.fixture(scope="module")
def truth(clean: Block) -> pl.DataFrame:
    return clean.truth


def test_clicks_and_conversions_follow_the_stated_probabilities(truth: pl.DataFrame) -> None:
    for happened, probability in (("clicked", "pctr"), ("converts", "pcvr")):
        p = truth[probability].cast(pl.Float64).to_numpy()
        error = np.sqrt((p * (1 - p)).sum())
        assert abs(truth[happened].sum() - p.sum()) < 4 * error
        # and each tenth of the rows by probability too
        for part in truth.sort(probability).iter_slices(6_000):
            p = part[probability].cast(pl.Float64).to_numpy()
            assert abs(part[happened].sum() - p.sum()) < 4.5 * np.sqrt((p * (1 - p)).sum())


def test_the_mean_rates_are_those_asked_for() -> None:
    calm = replace(LARGE, weekday=0, promotion=0, ctr=0.2, cvr=0.05)
    truth = block(calm, DAY, 0).truth
    assert truth["pctr"].mean() == pytest.approx(0.2, rel=0.06)  # a day's drift and its items are few
    assert truth["pcvr"].mean() == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize("selection", [-0.6, 0.0, 0.8])
def test_what_users_and_items_add_to_both_logits_has_the_asked_correlation(selection: float) -> None:
    there = world(replace(LARGE, selection=selection), DAY)
    draw = np.random.default_rng(0)
    click, conversion = there.affinities(draw.integers(0, 12_000, 50_000), draw.integers(0, 8_000, 50_000))
    assert np.corrcoef(click, conversion)[0, 1] == pytest.approx(selection, abs=0.03)
    for logit in (click, conversion):
        assert logit.std() == pytest.approx(np.hypot(LARGE.spread, LARGE.drift), rel=0.05)


def test_the_odds_of_a_click_fall_with_the_position_as_stated(clean: Block) -> None:
    rows = clean.truth.with_columns(clean.logs["exposure"]["position"])
    there = world(LARGE, DAY)
    for position in (1, 4, 10):
        # the same pairs on another place: only the logit of the click moves, by the bias times the log
        first, last = (
            there.probabilities(np.arange(99), np.arange(99), np.full(99, n)) for n in (1, position)
        )
        moved = np.log(first[0] / (1 - first[0])) - np.log(last[0] / (1 - last[0]))
        assert moved == pytest.approx(0.5 * np.log(position), abs=1e-4)
        assert (first[1] == last[1]).all()
    rates = rows.group_by("position").agg(pl.mean("clicked")).sort("position")["clicked"].to_list()
    assert all(above > below for above, below in pairwise(rates[:4]))


def test_delays_have_the_quantiles_of_their_segment() -> None:
    count = 40_000
    for category in (0, 4, 7):
        draw = np.random.default_rng(category)
        delay = draw_delays(LARGE, np.full(count, category), draw.random(count), draw.random(count))
        assert delay.max() < LARGE.horizon_days * 86_400
        mean, horizon = slow_means(LARGE)[category], LARGE.horizon_days * 86_400
        for hours in (1, 6, 24, 72, 144):
            quick, slow = (
                (1 - np.exp(-hours * 3_600 / one)) / (1 - np.exp(-horizon / one))
                for one in (3.6 * 3_600, mean)
            )
            stated = 0.45 * quick + 0.55 * slow
            assert known_share(LARGE, category, hours * 3_600) == pytest.approx(stated, abs=1e-9)
            assert (delay <= hours * 3_600).mean() == pytest.approx(stated, abs=4 * 0.5 / np.sqrt(count))
    assert slow_means(LARGE)[[0, 7]] == pytest.approx([0.6 * 86_400, 7 * 86_400])


def test_conversions_of_every_category_are_known_in_time_as_stated(truth: pl.DataFrame) -> None:
    found = truth.drop_nulls("delay_s")
    assert found["category"].n_unique() == LARGE.categories
    for (name,), part in found.group_by("category"):
        for hours in (2, 12, 48):
            stated = known_share(LARGE, int(str(name)[1:]), hours * 3_600)
            error = np.sqrt(stated * (1 - stated) / part.height)
            assert abs((part["delay_s"] <= hours * 3_600).mean() - stated) < 4 * error  # type: ignore[operator]


def test_a_conversion_in_the_logs_comes_its_delay_after_its_click(clean: Block, truth: pl.DataFrame) -> None:
    logs = clean.logs
    both = logs["conversion"].join(logs["click"], on="exposure_id", suffix="_click")
    both = both.join(truth, left_on="exposure_id", right_on="impression_id")
    assert both.height == truth.filter("clicked", "converts").height == truth["delay_s"].count()
    assert both["clicked"].all()
    assert ((both["ts_us"] - both["ts_us_click"]) / 1e6 - both["delay_s"]).abs().max() < 1e-3  # type: ignore[operator]
    shown = logs["click"].join(logs["exposure"], on="exposure_id", suffix="_shown")
    assert ((shown["ts_us"] - shown["ts_us_shown"]) < 3_600_000_000).all()
    assert ((shown["ts_us"] - shown["ts_us_shown"]) > 0).all()


def test_tastes_drift_and_forget_at_the_stated_rate() -> None:
    fast = replace(LARGE, drift=1.0, drift_days=5.0, spread=0.0, new_users=0, new_items=0)
    first, *later = (window(fast, "user", DAY + timedelta(days=n)).effect_E2[:, 0] for n in (0, 1, 5, 15))
    found = [float(np.corrcoef(first, one)[0, 1]) for one in later]
    assert found == pytest.approx([np.exp(-n / 5) for n in (1, 5, 15)], abs=0.03)
    still = replace(fast, drift=0.0, spread=1.0)
    one, other = (window(still, "user", DAY + timedelta(days=n)).effect_E2 for n in (0, 9))
    assert (one == other).all()


def test_every_day_brings_new_users_and_items_and_announces_its_items(clean: Block) -> None:
    (low, high), (after, end) = (bounds(SMALL, "user", SMALL.start + timedelta(days=n)) for n in (0, 1))
    assert (high - low, after - low, end - high) == (300, 6, 6)
    yesterday = DAY - timedelta(days=1)
    for who in ("user", "item"):
        share = (clean.logs["exposure"][f"{who}_id"] >= bounds(LARGE, who, yesterday)[1]).mean()
        assert share == pytest.approx(0.02, rel=0.3)  # 240 users, 160 items, some of them shown often
    shown = set(clean.logs["exposure"]["item_id"])
    assert shown <= set(catalogue(LARGE, yesterday)["item_id"])


def test_saturday_is_best_and_promotions_take_four_days_of_28() -> None:
    days = [date(2026, 2, 2) + timedelta(days=n) for n in range(28 * 10)]
    calm = replace(SMALL, promotion=0)
    logit = {day.weekday(): world(calm, day).base[0] for day in days[:7]}
    assert max(logit, key=logit.__getitem__) == 5
    assert logit[5] - min(logit.values()) == pytest.approx(0.15 * (1 + np.cos(np.pi / 7)), abs=1e-9)
    on = [day for day in days if promoted(SMALL, day)]
    assert 36 <= len(on) <= 44
    extra = np.subtract(world(SMALL, on[0]).base, world(calm, on[0]).base)
    assert extra == pytest.approx([0.2, 0.4])


def test_noise_is_as_asked_and_leaves_the_truth_alone(clean: Block) -> None:
    noise = Noise(duplicates=0.1, late=0.3, orphans=0.2, broken=0.05, replayed=0.02)
    dirty = block(replace(LARGE, noise=noise), DAY, 0)
    assert dirty.truth.equals(clean.truth)
    begins = (DAY - date(1970, 1, 1)) // timedelta(microseconds=1)
    for source, key in KEYS.items():
        rows, true = dirty.logs[source], clean.logs[source].height
        broken = rows.filter(pl.col(key).str.starts_with("x"))
        lost = rows.filter(pl.col(key).str.starts_with("orphan-"))
        copies = rows.height - rows.n_unique([key, "arrives"])
        replays = rows.n_unique([key, "arrives"]) - rows.n_unique([key])
        found = {"broken": broken.height, "orphans": lost.height, "duplicates": copies, "replayed": replays}
        asked = {name: getattr(noise, name) for name in found} | (
            {"orphans": 0} if source == "exposure" else {}
        )
        for name, share in asked.items():
            assert abs(found[name] - true * share) <= 4 * np.sqrt(true * share * (1 - share)), (source, name)
        assert broken.filter(pl.col("user_id").is_null() == (pl.col("ts_us") < begins // 2)).is_empty()
    shown = clean.logs["exposure"].filter(pl.col("ts_us") > begins + 86_400_000_000 - 3_000_000_000)
    late = dirty.logs["exposure"].filter(pl.col("arrives") == 1).n_unique("exposure_id")
    assert late / shown.height == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / shown.height))


@pytest.mark.parametrize(
    ("name", "value"),
    [("impressions", 0), ("ctr", 1.0), ("selection", 1.2), ("drift_days", 0), ("slow_days", (1.0,))],
)
def test_settings_that_nothing_can_be_made_from_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]
