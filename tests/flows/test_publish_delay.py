"""A history whose rows have no arrival time, but a declared publish delay; against plain Python."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from shop_house import open_house
from shop_logs import Price, make_logs, write_logs

import sql
from features.calendar import day_of, day_start
from features.errors import UsageError
from features.histories import as_of_impressions, as_of_start
from features.scenario import Scenario
from features.scenarios.shop import PRICE
from features.scenarios.shop import SCENARIO as SHOP
from features.schemas import events
from features.schemas import view as view_table
from features.versions import view_version
from features.view import History, View
from features.views.shop import item_price, item_profile
from flows.house import House
from flows.registry import entries
from flows.stages import at_impressions, read
from flows.stages import view as views
from flows.stale import stale_days

ZONE = SHOP.zone
#: The third has 23 hours.
DAYS = [date(2026, 3, 27) + timedelta(days=n) for n in range(4)]
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
#: Longer than what is left of most days, so that changes of a day count from the next one on.
DELAY = 30 * HOUR
LOG = replace(
    PRICE,
    schema=pa.schema([column for column in PRICE.schema if column.name != "arrived_at"]),
    late_days=0,
    max_quarantined=0.2,
)


def delayed(by: timedelta | None, **more: object) -> View:
    return replace(item_price.VIEW, source=History(source="price", publish_delay=by), **more)  # type: ignore[arg-type]


VIEW = delayed(DELAY, max_age_days=2)


def scenario(view: View, log: object = LOG) -> Scenario:
    catalogue, _ = SHOP.attributes
    return replace(
        SHOP, attributes=(catalogue, log), views=(item_profile.VIEW, view), on_demand=(), rollups=()
    )


def test_a_row_counts_from_exactly_its_event_and_the_delay_up_to_its_max_age() -> None:
    at = datetime(2026, 3, 27, 12)
    rows = pl.LazyFrame(
        [("a", 100, at), ("a", 200, at + HOUR)],
        schema={"item_id": pl.String, "price_cents": pl.Int64, "occurred_at": pl.Datetime("us")},
        orient="row",
    )
    expected = {
        at + DELAY - MICROSECOND: None,
        at + DELAY: 100,
        at + DELAY + HOUR - MICROSECOND: 100,
        at + DELAY + HOUR: 200,
        at + HOUR + 2 * DAY: 200,
        at + HOUR + 2 * DAY + MICROSECOND: None,
    }
    asked = pl.LazyFrame(
        [(str(n), "a", instant) for n, instant in enumerate(expected)],
        schema={"impression_id": pl.String, "item_id": pl.String, "exposed_at": pl.Datetime("us")},
        orient="row",
    )
    found = as_of_impressions(VIEW, LOG, rows, asked)
    assert found["current_price_cents"].to_list() == list(expected.values())
    for instant, price in expected.items():
        snapshot = as_of_start(VIEW, LOG, rows, instant).collect()
        assert snapshot["current_price_cents"].to_list() == ([] if price is None else [price])


def at_instant(prices: list[Price], at: datetime) -> int | None:
    known = [price for price in prices if price.at + DELAY <= at]
    last = max(known, key=lambda price: price.at, default=None)
    return last.cents if last is not None and at - last.at <= 2 * DAY else None


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A shop whose log of prices does not tell when its rows arrived."""
    copy = tmp_path / "sql"
    shutil.copytree(Path(sql.__file__).parent, copy)
    monkeypatch.setattr(sql, "files", lambda package: copy)
    file = copy / "logs" / "shop" / "price.sql"
    text, line = file.read_text("utf-8"), "    greatest(judged.occurred_at, $arrives_at) AS arrived_at,\n"
    assert text.count(line) == 1
    file.write_text(text.replace(line, ""), "utf-8")
    write_logs(tmp_path / "logs", DAYS)
    opened = open_house(tmp_path, scenario(VIEW))
    for day in DAYS:
        read.run(opened, day, ())
        views.run(opened, day, ())
    return opened


def test_snapshots_and_impressions_see_what_was_published_and_another_delay_is_another_version(
    house: House,
) -> None:
    told: dict[str, list[Price]] = {}
    for price in make_logs(DAYS).prices:
        if price.arrives == day_of(price.at, ZONE):  # a late row is none of this log
            told.setdefault(price.item, []).append(price)
    filled = 0
    for valid in (*DAYS, DAYS[-1] + DAY):
        rows = house.store.scan(view_table(VIEW, house.scenario), [valid]).drop("dt").collect()
        start = day_start(valid, ZONE)
        expected = {item: at_instant(prices, start) for item, prices in told.items()}
        found = dict(rows.iter_rows())
        assert {item: found.get(item) for item in told} == expected
        filled += len(found)
    assert filled > 100
    of_the_day = 0
    for day in DAYS:
        impressions = house.store.scan(events(house.scenario.impressions)).filter(pl.col("day") == day)
        shown = impressions.select("impression_id", "item_id", "exposed_at")
        values = at_impressions.values_of(house, VIEW, day)(shown)["current_price_cents"]
        for (_, item, at), price in zip(shown.collect().iter_rows(), values, strict=True):
            assert price == at_instant(told.get(item, []), at)
            of_the_day += price != at_instant(told.get(item, []), day_start(day, ZONE))
    assert of_the_day > 100

    (entry,) = entries(house, VIEW.name)
    assert entry.clocks == "occurred_at, known 1 day, 6:00:00 later (publish delay)"
    assert dict(entry.stale) == {}
    sooner = replace(VIEW, source=History(source="price", publish_delay=DELAY - MICROSECOND))
    changed = replace(house, scenario=scenario(sooner))
    assert view_version(changed.scenario, sooner) != view_version(house.scenario, VIEW)
    assert stale_days(changed, sooner, {}) == dict.fromkeys([*DAYS, DAYS[-1] + DAY], ("definition",))


@pytest.mark.parametrize(
    ("view", "log", "says"),
    [
        (delayed(None), LOG, "its rows have no 'arrived_at' and it declares no publish delay"),
        (delayed(HOUR), PRICE, "'arrived_at' and a publish delay of 1:00:00"),
        (delayed(-HOUR), LOG, "a publish delay of -1 day, 23:00:00 with a max age of 7 days"),
        (delayed(8 * DAY), LOG, "a publish delay of 8 days, 0:00:00 with a max age of 7 days"),
        (delayed(HOUR), replace(LOG, late_days=1), "though a row may come 1 days after its event's"),
    ],
)
def test_a_history_has_one_second_clock_and_no_other(view: View, log: object, says: str) -> None:
    with pytest.raises(UsageError, match=rf"^E201 .*view 'item_price' of the history 'price': .*{says}"):
        scenario(view, log)
    assert scenario(delayed(7 * DAY)).views[1].source == History(source="price", publish_delay=7 * DAY)
