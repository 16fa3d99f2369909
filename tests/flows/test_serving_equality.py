"""What scoring joins for an impression's user, item and context is what its sample was trained with.

Both see a day as of its start. A view that is fresh by event shows training rows more than that, later in
the day; at the instant of the day's start both must agree.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from candidate_rows import joined, log_of
from polars.testing import assert_frame_equal
from shop_logs import write_logs

from features.candidates import from_rule
from features.on_demand import inputs
from features.samples import join_views
from features.scenario import Scenario
from features.schemas import events, samples, view
from features.view import History, View
from flows.house import House
from flows.settings import Settings
from flows.stages import at_impressions, read, sample
from flows.stages import view as views

ROOT = Path(__file__).resolve().parents[2]
FIRST = {"kuairand": date(2022, 4, 25), "shop": date(2026, 1, 5)}
#: Rows of a block of candidates: several a day.
BLOCK = 4_096


@dataclass(frozen=True)
class Walk:
    """Three days of a scenario, up to their samples.

    Attributes:
        house: the warehouse.
        days: the days; nothing is known of what was before the first.
    """

    house: House
    days: list[date]

    @property
    def scenario(self) -> Scenario:
        return self.house.scenario

    @property
    def daily(self) -> list[View]:
        return [one for one in self.scenario.views if one.freshness == "daily"]

    def on_demand(self, known: set[str]) -> list[str]:
        """The features on demand that read nothing but these columns, or what follows from them."""
        found: list[str] = []
        for feature in self.scenario.on_demand:
            if set(inputs(feature)) <= known | set(found):
                found.append(feature.name)
        return found

    def snapshots(self, day: date) -> dict[str, pl.LazyFrame | None]:
        """What scoring for a day joins: the snapshots that are valid at its start and no others."""
        found = {one.name: view(one, self.scenario) for one in self.scenario.views}
        assert all(day in self.house.store.days(table) for table in found.values())
        return {name: self.house.store.scan(table, [day]) for name, table in found.items()}

    def shown(self, day: date) -> pl.LazyFrame:
        """The impressions of a day, whenever they arrived, as a log of candidates, one request each."""
        log = self.house.store.scan(events(self.scenario.impressions)).filter(pl.col("day") == day)
        return log.drop("dt").rename({"impression_id": "request_id"})


@pytest.fixture(scope="module", params=["kuairand", "shop"])
def walk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    name = request.param
    root = tmp_path_factory.mktemp(name)
    days = [FIRST[name] + timedelta(days=n) for n in range(3)]
    if name == "shop":
        write_logs(root / "logs", days)
    logs = ROOT / "data" / "kuairand" if name == "kuairand" else root / "logs"
    with pytest.MonkeyPatch.context() as patch:
        for variable in [one for one in os.environ if one.startswith("FUNNELCAST_")]:
            patch.delenv(variable)
        settings = Settings(
            warehouse=root / "warehouse", logs={name: logs}, scenario=name, memory_limit="1GB", threads=2
        )
    house = House.open(settings)
    for day in days:
        for stage in (read, views, sample):
            stage.run(house, day, ())
    return Walk(house, days)


def test_a_sample_has_the_features_that_scoring_joins_for_it_row_for_row(walk: Walk, tmp_path: Path) -> None:
    context = [feature.name for feature in walk.scenario.context]
    names = list(dict.fromkeys([*context, *(f.name for one in walk.daily for f in one.features)]))
    on_demand = walk.on_demand(set(names))
    assert on_demand == (["price_per_mean_paid", "is_last_clicked"] if walk.scenario.on_demand else [])
    names += on_demand
    for day in walk.days:
        trained = walk.house.store.scan(samples(walk.scenario), [day]).collect()
        served = joined(log_of(walk.shown(day), walk.scenario, walk.snapshots(day), tmp_path, BLOCK))
        assert trained.height == served.height > 1_000
        columns = [pl.col(name) for name in names]
        assert_frame_equal(
            served.sort("request_id").select(pl.col("request_id").alias("impression_id"), *columns),
            trained.sort("impression_id").select("impression_id", *columns),
            check_exact=True,
        )
        if day != walk.days[0]:  # before the first day nothing was known
            for one in walk.daily:
                assert all(trained[feature.name].n_unique() > 1 for feature in one.features), one.name
            assert all(trained[name].n_unique() > 1 for name in on_demand)


def test_a_pair_that_the_rule_makes_has_the_features_of_its_sample(walk: Walk) -> None:
    """What the context does not touch; the rule gives every user the context of their last impression."""
    of_ids = [one for one in walk.daily if set(one.keys) <= {"user_id", "item_id"}]
    names = [feature.name for one in of_ids for feature in one.features]
    names += walk.on_demand({"user_id", "item_id", *names})
    store, scenario, day = walk.house.store, walk.scenario, walk.days[-1]
    assert len(of_ids) >= 3
    known = walk.days[:-1]
    impressions = store.scan(events(scenario.impressions), known).drop("dt")
    clicks = store.scan(events(scenario.source(scenario.funnel[scenario.funnel.click].log)), known).drop("dt")
    some = impressions.filter(pl.col("user_id").hash(0) % 8 == 0)
    pairs = joined(from_rule(some, clicks, scenario, walk.snapshots(day), day))
    trained = store.scan(samples(scenario), [day]).collect()
    keys = ["user_id", "item_id"]
    both = trained.select(*keys, *names).join(pairs.select(keys), on=keys, how="semi").unique()
    served = pairs.select(*keys, *names).join(trained.select(keys), on=keys, how="semi")
    assert both.height > 20
    assert_frame_equal(served.sort(keys), both.sort(keys), check_exact=True)


@pytest.mark.parametrize("walk", ["shop"], indirect=True)
def test_a_view_fresh_by_event_tells_training_at_the_start_of_a_day_what_scoring_reads(walk: Walk) -> None:
    """Of all but those of whom something came late: at its first instant, the day has heard of it."""
    by_event = [one for one in walk.scenario.views if one.freshness == "event"]
    assert by_event
    for one, day in product(by_event, walk.days[1:]):
        store, scenario, keys = walk.house.store, walk.scenario, list(one.keys)
        start = walk.house.day_start(day)
        if isinstance(one.source, History):
            logs = [store.scan(events(scenario.source(one.source.source)), [day])]
            late = logs[0].filter(pl.col("occurred_at") <= start).select(keys).collect()
        else:
            logs = [store.scan(events(log), [day]) for log in (scenario.impressions, *scenario.events)]
            late = pl.concat([log.filter(pl.col("day") < day).select(keys) for log in logs]).collect()
        seen = store.scan(view(one, scenario), [day])
        asked = pl.concat([walk.shown(day).select(keys), seen.select(keys)]).unique().sort(keys).collect()
        asked = asked.join(late, on=keys, how="anti", maintain_order="left").with_columns(
            pl.lit(start, dtype=pl.Datetime("us")).alias("exposed_at"),
            pl.int_range(pl.len()).cast(pl.String).alias("impression_id"),
        )
        trained = at_impressions.values_of(walk.house, one, day)(asked.lazy())
        served = join_views(asked.lazy(), [one], walk.snapshots(day)).collect()
        names = ["impression_id", *(feature.name for feature in one.features)]
        assert_frame_equal(trained.select(names), served.select(names), check_exact=True)
        assert min(served[name].n_unique() for name in names) > 1
        assert late.height > 0
