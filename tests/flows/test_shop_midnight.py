"""Events whose impression lies on the other side of midnight belong to it once, whichever day asks."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
from shop_logs import SCHEMAS

from features.calendar import day_start
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows.house import House
from flows.settings import Settings
from flows.stages import read, sample, view

FIRST, SECOND = date(2026, 1, 5), date(2026, 1, 6)
MIDNIGHT = day_start(SECOND, SCENARIO.zone)


def micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def labels(root: Path, rows: dict[tuple[str, date], list[tuple[object, ...]]]) -> dict[str, tuple[int, int]]:
    """Labels (click, conversion) of every impression after two days of these deliveries."""
    for source in ("exposure", "click", "conversion", "refund", "item", "price"):
        for day in (FIRST, SECOND):
            folder = root / "logs" / source / f"dt={day}"
            folder.mkdir(parents=True)
            frame = pl.DataFrame(rows.get((source, day), []), schema=SCHEMAS[source], orient="row")
            frame.write_parquet(folder / "part-0.parquet")
    house = House.open(
        Settings(warehouse=root / "warehouse", logs={"shop": root / "logs"}, scenario="shop", threads=1)
    )
    for day in (FIRST, SECOND):
        for stage in (read, view, sample):
            stage.run(house, day, ())
    table = house.store.scan(samples(SCENARIO)).collect()
    return {row["impression_id"]: (row["y_click"], row["y_conversion"]) for row in table.rows(named=True)}


def shown(key: str, seconds: int, user: int = 1) -> tuple[object, ...]:
    return (key, user, "a", micros(MIDNIGHT) + seconds * 1_000_000, "home", 1)


def clicked(key: str, named: str | None, seconds: int, user: int = 1) -> tuple[object, ...]:
    return (key, named, user, "a", micros(MIDNIGHT) // 1_000_000 + seconds)


def test_a_purchase_belongs_to_the_last_click_even_if_its_impression_was_shown_the_day_before(
    tmp_path: Path,
) -> None:
    """Shown at 23:50 and clicked at 00:30; another one was shown at 00:05 and clicked at 00:10."""
    found = labels(
        tmp_path,
        {
            ("exposure", FIRST): [shown("before", -600)],
            ("exposure", SECOND): [shown("after", 300)],
            ("click", SECOND): [clicked("c1", None, 600), clicked("c2", "before", 1_800)],
            ("conversion", SECOND): [("o", 1, "a", micros(MIDNIGHT) + 3_600_000_000, 100)],
        },
    )
    assert found == {"before": (1, 1), "after": (1, 0)}


def test_a_click_that_seems_to_come_just_before_midnight_belongs_to_an_impression_just_after(
    tmp_path: Path,
) -> None:
    """The skew of five seconds also holds between two days' deliveries."""
    found = labels(
        tmp_path,
        {
            ("exposure", FIRST): [shown("other", -600, user=9)],
            ("exposure", SECOND): [shown("named", 2), shown("touched", 2, user=2)],
            ("click", FIRST): [clicked("c1", "named", -1), clicked("c2", None, -1, user=2)],
        },
    )
    assert found == {"other": (0, 0), "named": (1, 0), "touched": (1, 0)}
