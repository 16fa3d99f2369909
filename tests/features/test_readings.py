"""Readings of labels that can still change: against a clock that is walked through row by row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from features.batches import fresh_rows, targets
from features.completeness import estimate
from features.funnel import Funnel, Objective
from features.readings import Readings, open_rows
from features.scenarios import shop

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
T0 = datetime(2026, 3, 23)
#: A click has an hour and an order two days after it; 30 minutes of lateness.
SCENARIO = replace(
    shop.SCENARIO,
    zone="UTC",
    lateness=HOUR / 2,
    funnel=Funnel(
        (
            Objective(name="click", log="click", window=HOUR),
            Objective(name="order", log="conversion", given="click", window=2 * DAY, segment="category"),
        ),
        click="click",
        conversion="order",
    ),
)
RUNS = [T0 + n * DAY for n in range(1, 9)]
READS = [("early",), ("early", "turned"), ("early", "ripe"), ("nightly",)]


def impressions(count: int = 400) -> pl.DataFrame:
    """Rows of four days: some are clicked, some of these order, and some rows arrive a day late."""
    random, rows = Random(5), []
    for n in range(count):
        exposed = T0 + timedelta(seconds=random.uniform(0, 4 * 86_400))
        arrived = exposed + (DAY if random.random() < 0.1 else timedelta(0))
        clicked = random.random() < 0.5
        orders = clicked and random.random() < 0.6
        delay = random.expovariate(1 / 15)
        known = max(arrived, exposed + timedelta(hours=min(delay, 48.9)))
        rows.append(
            (f"i{n}", exposed, arrived, int(clicked), int(orders), known if orders else None, "ab"[n % 2])
        )
    schema = ["impression_id", "exposed_at", "arrived_at", "y_click", "y_order", "order_known_at", "category"]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(
        pl.col("exposed_at", "arrived_at", "order_known_at").cast(pl.Datetime("us")),
        pl.col("y_click", "y_order").cast(pl.Int8),
        weight=pl.lit(1.0, dtype=pl.Float32),
        click_known_at=pl.when(pl.col("y_click") == 1).then(pl.col("arrived_at")),
        final_click=pl.lit(value=True),
        final_order=pl.lit(value=True),
    ).sort("exposed_at", "impression_id")


def instants(row: dict[str, datetime], hours: float) -> tuple[datetime, datetime, datetime]:
    """When the click is final, when the order may be read, and when it is final."""
    click = max(row["exposed_at"] + 1.5 * HOUR, row["arrived_at"])
    final = max(row["exposed_at"] + 49.5 * HOUR, row["arrived_at"])
    return click, min(final, max(click, row["exposed_at"] + hours * HOUR)), final


def run_of(instant: datetime) -> datetime:
    """The first run that ends after an instant."""
    return next(until for until in [T0, *RUNS, T0 + 99 * DAY] if instant < until)


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize(("hours", "begins"), [(0.0, T0), (20.0, T0), (0.0, T0 + 2 * DAY)])
def test_every_label_is_read_when_its_policy_asks_and_as_it_was_known(
    reads: tuple[str, ...], hours: float, begins: datetime
) -> None:
    """Over a chain of runs that know everything from the beginning, also if it read otherwise before."""
    rows = impressions()
    asked = Readings(reads=reads, hours=hours, begins={"order": begins})
    found: list[tuple[object, ...]] = []
    for since, until in pairwise([T0, *RUNS]):
        told = open_rows(rows.lazy(), SCENARIO, since, until, asked, None).collect()
        order = told.filter("trains_order").select("impression_id", "y_order", "open_order", "again_order")
        found += [(row[0], until, *row[1:]) for row in order.rows()]
        clicks = fresh_rows(rows.lazy(), SCENARIO, since, until).filter("trains_click")
        assert told.filter("trains_click")["impression_id"].to_list() == (
            clicks.collect()["impression_id"].to_list()
        )
    expected: list[tuple[object, ...]] = []
    for row in rows.iter_rows(named=True):
        _, first, final = instants(row, hours)
        early = first >= begins
        at, ripe = run_of(first if early else final), run_of(final)

        def label(until: datetime, row: dict[str, datetime] = row) -> int:
            return int(row["order_known_at"] is not None and row["order_known_at"] < until)

        expected.append((row["impression_id"], at, label(at), final >= at, False))
        for until in RUNS:
            if until <= at or not early:
                continue
            turned = label(until) and not label(until - DAY)
            if (
                ("turned" in reads and turned)
                or ("ripe" in reads and until == ripe)
                or ("nightly" in reads and until <= ripe)
            ):
                expected.append((row["impression_id"], until, label(until), True, True))
    assert Counter(found) == Counter(expected)
    assert len(expected) > len(rows) or len(reads) == 1


def test_f_is_that_of_the_age_at_the_first_reading() -> None:
    """Read again, a label keeps the F of its first run; rows keep their order."""
    rows = impressions()
    curves = estimate(rows.lazy(), SCENARIO)
    asked = Readings(reads=("early", "ripe"), completeness=True, begins={"order": T0})
    since, until = RUNS[2], RUNS[3]
    told = open_rows(rows.lazy(), SCENARIO, since, until, asked, curves.lazy()).collect()
    assert told["impression_id"].equals(
        rows.filter(pl.col("impression_id").is_in(told["impression_id"].to_list()))["impression_id"]
    )
    checked = Counter()
    for row in told.filter("trains_order").iter_rows(named=True):
        _, first, final = instants(row, 0)
        age = run_of(first) - row["exposed_at"]
        if run_of(first) > final:
            assert row["complete_order"] == 1
            continue
        share = age / (49.5 * HOUR)
        own = curves.filter(
            pl.col("segment") == row["category"],
            pl.col("age_from_hours") <= share * 49.5,
            pl.col("age_to_hours") > share * 49.5,
        ).row(0, named=True)
        within = (share * 49.5 - own["age_from_hours"]) / (own["age_to_hours"] - own["age_from_hours"])
        expected = own["completeness_from"] + within * (own["completeness_to"] - own["completeness_from"])
        assert row["complete_order"] == pytest.approx(expected, rel=1e-5)
        checked[row["again_order"]] += 1
    assert min(checked.values()) > 50
    assert set(checked) == {False, True}


def test_labels_wait_while_there_is_no_f() -> None:
    """First readings before F is known are those of final labels; none is left out and none comes twice."""
    rows = impressions()
    curves = estimate(rows.lazy(), SCENARIO).lazy()
    begins = RUNS[1]
    asked = Readings(reads=("early",), completeness=True, begins={"order": begins})
    seen: Counter[str] = Counter()
    for since, until in pairwise([T0, *RUNS]):
        told = open_rows(rows.lazy(), SCENARIO, since, until, asked, curves if since >= begins else None)
        for row in told.filter("trains_order").collect().iter_rows(named=True):
            seen[row["impression_id"]] += 1
            _, first, _ = instants(row, 0)
            assert row["open_order"] == (first >= begins)
    assert set(seen.values()) == {1}
    assert len(seen) == rows.height
    without = Readings(reads=("early",), completeness=True, begins={})
    told = open_rows(rows.lazy(), SCENARIO, RUNS[0], RUNS[1], without, None).collect()
    assert not told["open_order"].any()


def test_the_first_run_of_a_day_ends_with_the_local_day() -> None:
    """Also on the day on which the clock in Berlin goes forward: 23 hours, over at 22:00 UTC."""
    scenario = replace(SCENARIO, zone="Europe/Berlin")
    end = datetime(2026, 3, 29, 22)
    assert datetime(2026, 3, 30, tzinfo=ZoneInfo("Europe/Berlin")).utctimetuple()[3] == 22
    row = impressions(1).with_columns(exposed_at=pl.lit(datetime(2026, 3, 28, 23)), arrived_at=pl.lit(T0))
    curves = estimate(impressions().lazy(), SCENARIO)
    asked = Readings(reads=("early", "ripe"), completeness=True, begins={"order": T0})
    early = open_rows(row.lazy(), scenario, end - 23 * HOUR, end, asked, curves.lazy()).collect()
    ripe = open_rows(row.lazy(), scenario, end + DAY, end + 3 * DAY, asked, curves.lazy()).collect()
    assert early["again_order"].to_list() == [False]
    assert ripe["again_order"].to_list() == [True]
    assert ripe["complete_order"].equals(early["complete_order"])


def test_batches_tell_how_far_labels_could_be_known() -> None:
    rows = impressions()
    told = open_rows(
        rows.lazy(), SCENARIO, RUNS[0], RUNS[1], Readings(reads=("early",), begins={"order": T0}), None
    ).collect()
    arrays = targets(told, SCENARIO)
    assert {name: array.dtype.name for name, array in arrays.items() if name not in ("y", "weight")} == {
        "trains": "bool",
        "open": "bool",
        "again": "bool",
        "complete": "float32",
    }
    assert arrays["open"][:, 1].tolist() == told["open_order"].to_list()
    assert not arrays["open"][:, 0].any()
    fresh = fresh_rows(rows.lazy(), SCENARIO, RUNS[0], RUNS[1]).collect()
    assert set(targets(fresh, SCENARIO)) == {"y", "trains", "weight"}
