"""Attributes with a history, by day and by impression, against plain Python over the shop's prices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_house import open_house
from shop_logs import PRICED, Logs, Price, make_logs, sku, write_logs

from features.calendar import day_start
from features.histories import as_of_start
from features.schemas import events
from features.schemas import view as view_table
from features.validation.tables import contract
from features.view import View
from features.views.shop import item_price, item_profile
from flows.house import House
from flows.stages import at_impressions, read, sample
from flows.stages import view as views

ZONE = "Europe/Berlin"
#: The third has 23 hours.
DAYS = [date(2026, 3, 27) + timedelta(days=n) for n in range(4)]
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
WEEK = item_price.VIEW
#: Forgets a price after one day, which is longer than the third day.
BRIEF = replace(
    WEEK,
    name="item_price_brief",
    max_age_days=1,
    features=tuple(replace(feature, name="brief_price_cents") for feature in WEEK.features),
)
VIEWS = (WEEK, BRIEF)
LATE, CORRECTED, WITHDRAWN, MIDNIGHT, UNKNOWN = (sku(PRICED + n) for n in range(5))


def house(root: Path, days: Sequence[date]) -> House:
    """A shop that has read and computed these days, one after the other."""
    write_logs(root / "logs", DAYS)
    opened = open_house(root)
    # The labels' completeness goes by the category of an item.
    views_only = replace(opened.scenario, views=(item_profile.VIEW, *VIEWS), on_demand=(), rollups=())
    kept = replace(opened, scenario=views_only)
    for day in days:
        read.run(kept, day, ())
        views.run(kept, day, ())
    return kept


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> House:
    return house(tmp_path_factory.mktemp("shop"), DAYS)


@pytest.fixture(scope="module")
def truth() -> Logs:
    return make_logs(DAYS)


def by_item(prices: Iterable[Price]) -> dict[str, list[Price]]:
    found: dict[str, list[Price]] = defaultdict(list)
    for price in prices:
        found[price.item].append(price)
    return found


def counts_from(price: Price) -> datetime:
    return max(price.at, day_start(price.arrives, ZONE))


def at_instant(prices: Sequence[Price], at: datetime, view: View) -> tuple[int | None] | None:
    """The price that is known at an instant; nothing if none is, or only one that is too old."""
    known = [price for price in prices if counts_from(price) <= at]
    if not known:
        return None
    last = max(known, key=lambda price: (price.at, counts_from(price)))
    return (last.cents,) if at - last.at <= view.max_age_days * DAY else None


def stored(shop: House, view: View, valid: date) -> dict[str, int | None]:
    rows = shop.store.scan(view_table(view, shop.scenario), [valid]).drop("dt").collect()
    assert rows["item_id"].is_sorted()
    return dict(rows.iter_rows())


def as_of(
    shop: House, view: View, day: date, asked: Sequence[tuple[str | None, datetime]]
) -> list[int | None]:
    """What impressions of these items at these instants see."""
    rows = pl.LazyFrame(
        [(str(n), *one) for n, one in enumerate(asked)],
        schema={"impression_id": pl.String, "item_id": pl.String, "exposed_at": pl.Datetime("us")},
        orient="row",
    )
    found = at_impressions.values_of(shop, view, day)(rows)
    assert found["impression_id"].to_list() == [str(n) for n in range(len(asked))]
    (name,) = (feature.name for feature in view.features)
    assert found.columns == ["impression_id", name]
    return found[name].to_list()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_snapshot_holds_the_price_that_had_arrived_before_the_day(
    shop: House, truth: Logs, view: View
) -> None:
    told = by_item(truth.prices)
    for valid in [*DAYS, DAYS[-1] + DAY]:
        start = day_start(valid, ZONE)
        before = {item: [p for p in prices if p.arrives < valid] for item, prices in told.items()}
        expected = {item: at_instant(prices, start, view) for item, prices in before.items()}
        found = stored(shop, view, valid)
        assert found == {item: known[0] for item, known in expected.items() if known is not None}
        assert (len(found) > 40) is (valid > DAYS[0])
    too_old = [item for item, known in expected.items() if known is None and before[item]]
    assert (len(too_old) > 10) is (view is BRIEF)
    assert list(found.values()).count(None) == 1  # withdrawn, which is known of it
    assert UNKNOWN not in found


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_an_impression_sees_the_price_known_at_its_instant(shop: House, truth: Logs, view: View) -> None:
    told = by_item(truth.prices)
    of_the_day = corrected = expired = 0
    for day in DAYS:
        impressions = shop.store.scan(events(shop.scenario.impressions)).filter(pl.col("day") == day)
        shown = impressions.select("impression_id", "item_id", "exposed_at")
        found = at_impressions.values_of(shop, view, day)(shown)
        rows = shown.collect()
        assert found["impression_id"].equals(rows["impression_id"])
        for (_, item, at), (_, price) in zip(rows.iter_rows(), found.iter_rows(), strict=True):
            known = at_instant(told[item], at, view)
            assert price == (None if known is None else known[0])
            of_the_day += known is not None and known != at_instant(told[item], day_start(day, ZONE), view)
            corrected += price == 999
            expired += known is None and any(counts_from(p) <= at for p in told[item])
    assert of_the_day > 500
    assert corrected > 10
    assert (expired > 100) is (view is BRIEF)


def test_a_correction_counts_from_its_arrival_and_a_late_change_not_before_it(shop: House) -> None:
    day = DAYS[1]
    start, end = day_start(day, ZONE), day_start(day + DAY, ZONE)
    hour = timedelta(hours=1)

    def price(item: str, at: datetime) -> int | None:
        (found,) = as_of(shop, WEEK, day, [(item, at)])
        return found

    # Of the day before: told wrong then, corrected by this day's delivery; wrong again later.
    assert price(CORRECTED, start) == 999
    assert price(CORRECTED, end - 4 * hour - MICROSECOND) == 999
    assert price(CORRECTED, end - 4 * hour) == 9_999
    assert price(CORRECTED, end - MICROSECOND) == 9_999
    assert stored(shop, WEEK, day)[CORRECTED] == 9_999
    # This one changes to 700 ten minutes before each midnight, which the next delivery tells; on odd days it
    # changes once more five minutes later, to 800, which is told in time, so that the 700 never counts.
    odd, even = sorted(DAYS[1:3], key=lambda one: one.toordinal() % 2, reverse=True)
    for day, then, next_day in ((odd, 800, 800), (even, 800, 700)):
        midnight = day_start(day + DAY, ZONE)
        assert as_of(shop, WEEK, day, [(LATE, midnight - MICROSECOND)]) == [then]
        assert stored(shop, WEEK, day + DAY)[LATE] == then
        assert as_of(shop, WEEK, day + DAY, [(LATE, midnight)]) == [next_day]


def test_a_change_is_as_old_as_its_instant_also_over_a_short_day(shop: House) -> None:
    """The product of midnight changes its price at each day's start; its last change is the fourth day's."""
    last = DAYS[-1]
    changed = day_start(last, ZONE)
    edge = changed + BRIEF.max_age_days * DAY
    price = 100 + last.toordinal() % 7
    # Asked for the day after, of which nothing has arrived.
    assert as_of(shop, BRIEF, last + DAY, [(MIDNIGHT, edge), (MIDNIGHT, edge + MICROSECOND)]) == [price, None]
    assert as_of(shop, WEEK, last + DAY, [(MIDNIGHT, edge + MICROSECOND)]) == [price]
    # The day before it had 23 hours: a price of the last hour of the day before that still counts.
    sources = views.plan_view(shop, BRIEF, last).inputs
    assert {f"events/price {last - n * DAY}" for n in (1, 2)} <= sources.keys()
    assert f"events/price {last - 3 * DAY}" not in sources
    assert f"events/price {last}" not in sources
    assert f"events/price {last}" in at_impressions.sources_of(shop, BRIEF, last)


def test_an_item_without_a_price_and_no_item_at_all_see_nothing(shop: House) -> None:
    at = day_start(DAYS[-1], ZONE) + timedelta(hours=20)
    asked = [(UNKNOWN, at), ("no such item", at), (None, at), (sku(0), at)]
    *nothing, something = as_of(shop, WEEK, DAYS[-1], asked)
    assert nothing == [None, None, None]
    assert something is not None


def test_an_impression_at_a_days_start_sees_what_the_snapshot_says(tmp_path: Path) -> None:
    """Scoring equals training where both ask the same: nothing of the day has arrived."""
    sooner, day = house(tmp_path, DAYS[:3]), DAYS[3]
    items = [sku(n) for n in range(PRICED + 5)]
    for view in VIEWS:
        known = stored(sooner, view, day)
        found = as_of(sooner, view, day, [(item, day_start(day, ZONE)) for item in items])
        assert found == [known.get(item) for item in items]
        assert len(known) > 40


def test_samples_hold_the_price_as_of_each_impression(shop: House, truth: Logs) -> None:
    sample.run(shop, DAYS[0], ())
    told = by_item(truth.prices)
    for view in VIEWS:
        (name,) = (feature.name for feature in view.features)
        rows = shop.store.scan(sample.samples(shop.scenario), [DAYS[0]])
        for item, at, price in rows.select("item_id", "exposed_at", name).collect().iter_rows():
            assert (price,) == (at_instant(told[item], at, view) or (None,))
    inputs = sample.plan_sample(shop, DAYS[1], DAYS[1]).inputs
    assert {"events/price 2026-03-27", "events/price 2026-03-28"} <= inputs.keys()
    longer = replace(shop.scenario, views=(item_profile.VIEW, WEEK, replace(BRIEF, max_age_days=2)))
    other = sample.plan_sample(replace(shop, scenario=longer), DAYS[1], DAYS[1]).inputs
    assert {name for name in inputs if inputs[name] != other.get(name)} == {"definition"}


def test_a_price_below_nothing_or_from_the_future_is_refused_where_it_is_read(shop: House) -> None:
    (price,) = (one for one in shop.scenario.attributes if one.name == "price")
    at = datetime(2026, 3, 27, 12)
    rows = pl.DataFrame(
        [("a", "x", -1, at, at), ("b", "x", 1, at + MICROSECOND, at), ("c", "x", None, at, at)],
        schema=dict(pl.DataFrame(price.schema.empty_table()).schema),
        orient="row",
    )
    held = contract(events(price), shop.scenario)
    refused = {
        name: rows.filter(~rule)["change_id"].to_list()
        for name, rule in held.rules.items()
        if held.levels.get(name) == "quarantine" and not rows.filter(~rule).is_empty()
    }
    assert {name: ids for name, ids in refused.items() if "brief" not in name} == {
        "current_price_cents_min": ["a"],
        "arrives_after_it_occurred": ["b"],
    }


def test_a_source_without_both_clocks_has_no_history(shop: House) -> None:
    (catalogue,) = (one for one in shop.scenario.attributes if one.name == "item")
    with pytest.raises(ValueError, match=r"'item' must have \['occurred_at', 'arrived_at'\]"):
        as_of_start(WEEK, catalogue, pl.LazyFrame(), datetime(2026, 3, 27))
    with pytest.raises(ValueError, match="'item_profile' has no history"):
        as_of_start(item_profile.VIEW, catalogue, pl.LazyFrame(), datetime(2026, 3, 27))
