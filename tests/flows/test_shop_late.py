"""What arrives after a label was final is a revision; what arrives after its samples are closed is told."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from shop_logs import SCHEMAS

from features.bookkeeping import QUARANTINE
from features.calendar import day_start
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows.house import House
from flows.settings import Settings
from flows.stages import read, sample, view

FIRST = date(2026, 1, 5)
DAYS = [FIRST + timedelta(days=n) for n in range(5)]
HOUR, MINUTE = 3_600, 60


def micros(seconds: float) -> int:
    """Microseconds at so many seconds into the first day."""
    begins = day_start(FIRST, SCENARIO.zone) + timedelta(seconds=seconds)
    return (begins - datetime(1970, 1, 1)) // timedelta(microseconds=1)


#: Somebody is shown something every day; one person clicks and buys as late as can be.
SHOWN_AT, CLICK_AT = 24 * HOUR - MINUTE, 25 * HOUR - 2 * MINUTE
DELIVERED: dict[tuple[str, int], list[tuple[object, ...]]] = {
    **{
        ("exposure", n): [(f"other-{n}", 9, "a", micros(n * 24 * HOUR + HOUR), "home", 1)]
        for n in range(1, 5)
    },
    ("exposure", 0): [
        ("morning", 1, "a", micros(10 * HOUR), "home", 1),
        ("night", 2, "b", micros(SHOWN_AT), "home", 1),
    ],
    # Delivered a day after it happened, when the label of a click in the morning had long been final.
    ("click", 1): [
        ("late", "morning", 1, "a", micros(10 * HOUR + MINUTE) // 1_000_000),
        ("in-time", "night", 2, "b", micros(CLICK_AT) // 1_000_000),
    ],
    # The purchase is in its window, its delivery is not in that of the samples.
    ("conversion", 4): [("o", 2, "b", micros(CLICK_AT + 48 * HOUR - MINUTE), 100)],
    ("refund", 4): [("r", "o", 2, "b", micros(CLICK_AT + 48 * HOUR), None)],
}  # fmt: skip


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, list[pl.DataFrame]]:
    root = tmp_path_factory.mktemp("late")
    for source in ("exposure", "click", "conversion", "refund", "item", "price"):
        for n, day in enumerate(DAYS):
            folder = root / "logs" / source / f"dt={day}"
            folder.mkdir(parents=True)
            frame = pl.DataFrame(DELIVERED.get((source, n), []), schema=SCHEMAS[source], orient="row")
            frame.write_parquet(folder / "part-0.parquet")
    settings = Settings(
        warehouse=root / "warehouse", logs={"shop": root / "logs"}, scenario="shop", threads=1
    )
    house, seen = House.open(settings), []
    for day in DAYS:
        for stage in (read, view, sample):
            stage.run(house, day, ())
        seen.append(house.store.scan(samples(SCENARIO), [FIRST]).sort("impression_id").collect())
    return house, seen


def test_a35_a36_a_click_after_the_lateness_was_a_zero_and_is_a_one_in_the_next_version(
    walk: tuple[House, list[pl.DataFrame]],
) -> None:
    columns = ("impression_id", "y_click", "final_click", "revised_at")
    first, second = (frame.select(columns).rows() for frame in walk[1][:2])
    assert first == [("morning", 0, True, None), ("night", 0, False, None)]
    midnight = day_start(DAYS[1], SCENARIO.zone)
    assert second == [("morning", 1, True, midnight), ("night", 1, True, None)]


def test_a_purchase_that_arrives_after_its_samples_are_closed_is_quarantined_with_its_refund(
    walk: tuple[House, list[pl.DataFrame]],
) -> None:
    house, seen = walk
    assert seen[-1].select("y_conversion", "final_conversion").rows() == [(0, True), (0, True)]
    kept = house.store.scan(QUARANTINE).filter(pl.col("dt") == DAYS[4]).collect()
    told = {row["reason"]: json.loads(row["row_text"])["event_id"] for row in kept.rows(named=True)}
    assert told == {"LATE_CONVERSION": "o/b", "LATE_REFUND": "r"}
    assert kept["origin"].to_list() == ["label.conversion"] * 2


def test_the_state_of_the_labels_follows_the_clock(walk: tuple[House, list[pl.DataFrame]]) -> None:
    states = [frame["label_state"].to_list() for frame in walk[1]]
    assert states[0] == ["partial", "fresh"]
    assert states[1] == ["partial", "partial"]
    assert states[2] == ["mature", "partial"]  # 10:00 and 52 hours are 14:00 of the third day
    assert states[3] == ["mature", "mature"]
    assert walk[1][3]["label_as_of"].unique().to_list() == [day_start(DAYS[4], SCENARIO.zone)]
