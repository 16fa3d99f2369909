"""Five days of the shop through read, view and sample, over a change of the clock, against the truth."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from attribution_by_hand import Back, Done, Shown, Told, attribute_by_hand
from polars.testing import assert_frame_equal
from shop_logs import ITEMS, Event, Logs, make_logs, price_cents, sku, write_logs

from features.bookkeeping import QUARANTINE
from features.calendar import day_end, day_of, day_start
from features.scenarios.shop import SCENARIO
from features.schemas import events, samples, view
from features.validation.bands import QUALITY
from flows.house import House
from flows.settings import Settings
from flows.stages import read, sample, validate
from flows.stages import view as views
from flows.stages.record import StageRecord

ZONE = SCENARIO.zone
#: The third has 23 hours.
DAYS = [date(2026, 3, 27) + timedelta(days=n) for n in range(5)]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SAMPLES = samples(SCENARIO)


@dataclass
class Walk:
    """A warehouse after a walk through some days.

    Attributes:
        house: the warehouse.
        truth: what happened and what was planted.
        records: what the stages said, by day.
        samples: the whole sample table as it stood after each day.
    """

    house: House
    truth: Logs
    records: dict[date, list[StageRecord]] = field(default_factory=dict)
    samples: dict[date, pl.DataFrame] = field(default_factory=dict)

    def run(self, day: date) -> list[StageRecord]:
        return [record for stage in (read, views, sample) for record in stage.run(self.house, day, ())]


def walk_through(root: Path, days: list[date]) -> Walk:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
            patch.delenv(name)
        settings = Settings(
            warehouse=root / "warehouse",
            logs={"shop": root / "logs"},
            scenario="shop",
            memory_limit="1GB",
            threads=2,
        )
    write_logs(root / "logs", days)
    walk = Walk(House.open(settings), make_logs(days))
    for day in days:
        walk.records[day] = walk.run(day)
        walk.samples[day] = walk.house.store.scan(SAMPLES).collect()
    return walk


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return walk_through(tmp_path_factory.mktemp("five days"), DAYS)


def arrived(walk: Walk, source: str, until: date) -> list[Event]:
    return [event for event in walk.truth.events[source] if event.arrives <= until]


def exposures(walk: Walk, until: date) -> list[Event]:
    return arrived(walk, "exposure", until)


def test_F38_every_row_of_every_log_is_accounted_for_as_planted(walk: Walk) -> None:
    for day in DAYS:
        told = {r.table: r for r in walk.records[day] if r.stage == "read" and r.table != QUARANTINE.name}
        assert set(told) == {source.table for source in SCENARIO.sources}
        for source in SCENARIO.sources:
            record, planted = told[source.table], Counter(walk.truth.verdicts[source.name, day])
            copies = planted.pop("DUPLICATE")
            assert record.rows_in == len(walk.truth.raw[source.name, day])
            assert record.rows_in == record.rows_out + record.deduplicated + sum(record.quarantined.values())
            assert (record.deduplicated, record.quarantined) == (copies, dict(planted))


def test_quarantine_keeps_each_refused_row_with_its_reason(walk: Walk) -> None:
    found = walk.house.store.scan(QUARANTINE).collect()
    for day in DAYS:
        for source in SCENARIO.sources:
            planted = {r: n for r, n in walk.truth.verdicts[source.name, day].items() if r != "DUPLICATE"}
            kept = found.filter((pl.col("dt") == day) & (pl.col("origin") == f"read.{source.name}"))
            assert dict(kept["reason"].value_counts().iter_rows()) == planted
            assert kept["row_text"].str.len_chars().min() > 10


def test_events_are_what_happened_once_each_on_their_own_day(walk: Walk) -> None:
    for source in (SCENARIO.impressions, *SCENARIO.events):
        time = "exposed_at" if source.role == "impression" else "occurred_at"
        found = walk.house.store.scan(events(source)).select(
            source.key, "user_id", "item_id", "day", time, "arrived_at", "dt"
        )
        expected = sorted(
            (
                event.id,
                event.user,
                event.item,
                day_of(event.at, ZONE),
                event.at,
                max(event.at, day_start(event.arrives, ZONE)),
                event.arrives,
            )
            for event in walk.truth.events[source.name]
        )
        assert sorted(found.collect().rows()) == expected
        assert any(day < dt for *_, day, _, _, dt in expected)  # some came late


def test_F40_F41_F42_orphans_are_counted_exactly_as_planted(walk: Walk) -> None:
    found = walk.house.store.scan(QUARANTINE).collect()
    for day in DAYS:
        for objective in SCENARIO.funnel:
            kept = found.filter((pl.col("dt") == day) & (pl.col("origin") == f"label.{objective.name}"))
            sources = [name for name in (objective.log, objective.reversals) if name is not None]
            planted = {f"ORPHAN_{name.upper()}": walk.truth.orphans[name, day] for name in sources}
            assert min(planted.values()) > 0
            if beyond := walk.truth.beyond[objective.log, day]:
                planted[f"BEYOND_{objective.log.upper()}"] = beyond
            assert dict(kept["reason"].value_counts().iter_rows()) == planted
            ids = {json.loads(text)["event_id"] for text in kept["row_text"]}
            assert ids <= {e.id for name in sources for e in walk.truth.events[name] if e.arrives == day}
    # Two clicks of every day, and from the third day on a purchase fifty hours after its click.
    assert [walk.truth.beyond["click", day] for day in DAYS] == [2] * 5
    assert [walk.truth.beyond["conversion", day] for day in DAYS] == [0, 0, 1, 1, 1]


def test_F55_a_price_that_is_known_only_after_an_impression_is_kept_from_it_and_counted(walk: Walk) -> None:
    seen = dict(walk.samples[DAYS[-1]].select("impression_id", "current_price_cents").rows())
    for before, day in pairwise(DAYS):
        starts = day_start(day, ZONE)
        late = [p for p in walk.truth.prices if p.arrives == day and day_of(p.at, ZONE) == before]
        shown = [e for e in exposures(walk, day) if e.arrives in (before, day)]
        kept_from = {e.id: p.cents for p in late for e in shown if e.item == p.item and p.at <= e.at < starts}
        validate.run(walk.house, day, ())
        found = walk.house.store.scan(QUALITY, [day]).filter(rule="withheld").collect()
        (row,) = found.rows(named=True)
        assert (row["table"], row["column"], row["rows"]) == ("events/price", "item_price", len(shown))
        assert round(row["value"] * row["rows"]) == len(kept_from)
        # It was excluded: until the correction was known, the wrong price was the price.
        assert {seen[i] for i, cents in kept_from.items() if cents == 999} <= {9_999}
        if day == DAYS[1]:
            assert len(kept_from) > 1


def labels_by_hand(walk: Walk, as_of: date) -> Told:
    """Labels from everything that has arrived by the end of a day."""

    def heard(event: Event) -> datetime:
        return max(event.at, day_start(event.arrives, ZONE))

    return attribute_by_hand(
        [Shown(e.id, e.user, e.item, e.at, heard(e)) for e in exposures(walk, as_of)],
        {
            o.name: [
                Done(e.id, e.impression, e.user, e.item, e.at, heard(e), e.cents)
                for e in arrived(walk, o.log, as_of)
            ]
            for o in SCENARIO.funnel
        },
        SCENARIO.funnel,
        SCENARIO.skew,
        {
            "conversion": [
                Back(e.id, e.reverses, e.at, heard(e), e.cents) for e in arrived(walk, "refund", as_of)
            ]
        },
    )


def test_samples_of_every_run_are_the_labels_known_by_then(walk: Walk) -> None:
    for day in DAYS:
        told = labels_by_hand(walk, day)
        table = walk.samples[day].filter(pl.col("dt") >= day - SCENARIO.restated_days * DAY)
        expected = {
            e.id: e for e in exposures(walk, day) if day_of(e.at, ZONE) >= day - SCENARIO.restated_days * DAY
        }
        assert table.height == len(expected)
        for row in table.rows(named=True):
            key = row["impression_id"]
            assert key in expected
            for name in ("click", "conversion"):
                found = [row[f"{name}_at"], row[f"{name}_known_at"], row[f"n_{name}"], row[f"y_{name}"]]
                first, count = told.first[name].get(key), told.count[name].get(key, 0)
                assert found == [first, told.known[name].get(key), count, min(count, 1)]
            assert row["v_conversion"] == told.total["conversion"].get(key, 0)


def test_a_refund_takes_a_purchase_out_of_the_samples_once_it_is_known(walk: Walk) -> None:
    taken = 0
    for before, after in pairwise(DAYS):
        both = walk.samples[before].join(walk.samples[after], on="impression_id", suffix="_then")
        fell = both.filter((pl.col("y_conversion") == 1) & (pl.col("y_conversion_then") == 0))
        refunded = {e.reverses for e in walk.truth.events["refund"] if e.arrives == after}
        owners = labels_by_hand(walk, before).owner["conversion"]
        assert set(fell["impression_id"]) <= {owners.get(str(bought)) for bought in refunded}
        taken += fell.height
    assert taken > 0


def test_completeness_is_unknown_without_final_days_and_then_grows_with_age_up_to_one(walk: Walk) -> None:
    """The labels of the first day are final with the run of the fourth, and serve from the fifth on."""
    for day in DAYS:
        table = walk.samples[day].filter(pl.col("label_as_of") == day_end(day, ZONE))
        for o in SCENARIO.funnel:
            final, open_ = (table.filter(pl.col(o.final) == which)[o.completeness] for which in (True, False))
            assert (final == 1).all()
            assert open_.len() > 100
            assert open_.null_count() == (0 if day == DAYS[-1] else open_.len())
    table = walk.samples[DAYS[-1]].filter(~pl.col("final_conversion"))
    for _, rows in table.group_by("category"):
        shares = rows.sort("age_hours")["completeness_conversion"]
        assert shares.is_between(0, 1).all()
        assert shares.is_sorted()
        assert shares[0] < 0.2 < 0.7 < shares[-1]


def test_F43_F44_rows_and_labels_that_come_a_day_later_turn_up_in_the_restated_samples(walk: Walk) -> None:
    first, second = (walk.samples[day].filter(pl.col("dt") == DAYS[0]) for day in DAYS[:2])
    late = {
        e.id for e in walk.truth.events["exposure"] if e.arrives == DAYS[1] and day_of(e.at, ZONE) == DAYS[0]
    }
    assert late
    assert set(second["impression_id"]) - set(first["impression_id"]) == late
    both = first.join(second, on="impression_id", suffix="_then")
    assert both.height == first.height
    flipped = both.filter(pl.col("y_conversion") != pl.col("y_conversion_then"))
    assert flipped.height > 20
    assert flipped["y_conversion_then"].sum() > 20
    assert set(second["label_as_of"]) == {day_end(DAYS[1], ZONE)}


def test_a_label_is_final_by_the_clock_and_then_never_changes(walk: Walk) -> None:
    settled: dict[tuple[str, str], int] = {}
    for day in DAYS:
        watermark = day_end(day, ZONE)
        for row in walk.samples[day].filter(pl.col("label_as_of") == watermark).rows(named=True):
            closes = {"click": row["exposed_at"] + 2 * HOUR, "conversion": row["exposed_at"] + 52 * HOUR}
            for name, instant in closes.items():
                known_and_closed = max(instant, row["arrived_at"]) < watermark
                assert row[f"final_{name}"] == known_and_closed
                if known_and_closed:
                    key = (row["impression_id"], name)
                    assert settled.setdefault(key, row[f"y_{name}"]) == row[f"y_{name}"]
    assert Counter(name for _, name in settled)["conversion"] > 2_000


def test_every_impression_of_the_first_days_ends_with_final_labels(walk: Walk) -> None:
    done = walk.samples[DAYS[-1]].filter(pl.col("dt") <= DAYS[1])
    assert done.height == len([e for e in walk.truth.events["exposure"] if day_of(e.at, ZONE) <= DAYS[1]])
    assert done["final_click"].all()
    assert done["final_conversion"].all()


def test_features_are_those_counted_by_hand_from_what_had_arrived_before_the_day(walk: Walk) -> None:
    table = walk.samples[DAYS[-1]]
    for day in DAYS:
        before = day - DAY
        logs = {name: arrived(walk, name, before) for name in ("exposure", "click", "conversion")}

        def tally(source: str, key: Callable[[Event], object], days: int) -> Counter[object]:
            inside = (e for e in logs[source] if day - days * DAY <= day_of(e.at, ZONE) < day)  # noqa: B023
            return Counter(key(e) for e in inside)

        expected = {}
        for entity, key in (("user", lambda e: e.user), ("item", lambda e: e.item)):
            seen = {days: tally("exposure", key, days) for days in (1, 3)}
            clicked = {days: tally("click", key, days) for days in (1, 3)}
            bought = tally("conversion", key, 3)
            expected[entity] = {
                one: (
                    seen[3][one],
                    (min(clicked[1][one], seen[1][one]) + 5 * 0.25) / (seen[1][one] + 5),
                    (min(clicked[3][one], seen[3][one]) + 5 * 0.25) / (seen[3][one] + 5),
                    (min(bought[one], clicked[3][one]) + 5 * 0.2) / (clicked[3][one] + 5),
                )
                for one in {key(e) for e in walk.truth.events["exposure"]}
            }
        last: dict[int, list[str]] = {}
        for e in sorted(logs["click"], key=lambda e: (e.at, e.item), reverse=True):
            last.setdefault(e.user, []).append(e.item)
        rows = table.filter(pl.col("dt") == day).rows(named=True)
        assert len(rows) > 1_000
        for row in rows:
            for entity in ("user", "item"):
                names = ("impression_count_3d", "click_per_impression_1d", "click_per_impression_3d")
                found = [row[f"{entity}_{name}"] for name in (*names, "conversion_per_click_3d")]
                assert found == pytest.approx(expected[entity][row[f"{entity}_id"]], rel=1e-12)
            assert row["user_last_clicked_items"] == (last.get(row["user_id"], [])[:5] or None)
            # The catalogue of the day before; none had been delivered before the first day.
            number = int(row["item_id"].removeprefix("sku-"))
            known = day > DAYS[0]
            assert row["price"] == (pytest.approx(price_cents(number, before) / 100) if known else None)
            assert row["category"] == (("tea", "cups", "books")[number % 3] if known else None)


def test_ids_that_are_equal_as_doubles_stay_apart(walk: Walk) -> None:
    users = walk.samples[DAYS[-1]]["user_id"].unique()
    assert users.cast(pl.Float64).n_unique() < users.len()
    assert {e.user for e in walk.truth.events["exposure"]} == set(users)
    snapshot = walk.house.store.scan(view(SCENARIO.views[0], SCENARIO), [DAYS[-1]]).collect()
    assert snapshot["item_id"].to_list() == sorted(sku(n) for n in range(ITEMS))


def test_a_day_that_is_run_again_changes_nothing_and_says_so(walk: Walk) -> None:
    tables = [SAMPLES, QUARANTINE, *(events(source) for source in SCENARIO.sources)]
    before = [walk.house.store.snapshot(table) for table in tables]
    for day in (DAYS[-1], DAYS[1]):
        assert not any(stage.pending(walk.house, day, ()) for stage in (read, views, sample))
        assert all(record.repeated for record in walk.run(day))
    assert [walk.house.store.snapshot(table) for table in tables] == before


def test_the_candidates_log_is_read_like_any_other(walk: Walk) -> None:
    source = SCENARIO.candidates_log
    assert source is not None
    (*_, record) = read.read(walk.house, source, DAYS[2])
    assert (record.rows_out, record.deduplicated, record.quarantined) == (450, 3, {"NULL_KEY": 1})


def test_another_warehouse_that_ends_sooner_holds_the_same_bytes(walk: Walk, tmp_path: Path) -> None:
    """Equal inputs give equal files, and nothing of a day depends on the days that follow it."""
    sooner = walk_through(tmp_path, DAYS[:2])
    for day in DAYS[:2]:
        assert_frame_equal(sooner.samples[day], walk.samples[day])

    def files(some: Walk) -> dict[str, bytes]:
        root = some.house.store.root
        return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("dt=*/**/*.parquet")}

    ours, theirs = files(walk), files(sooner)
    assert len(theirs) > 30
    assert {name: ours.get(name) == content for name, content in theirs.items()} == dict.fromkeys(
        theirs, True
    )
