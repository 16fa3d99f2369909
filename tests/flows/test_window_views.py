"""Views of sums, extremes, last and distinct values, and of hours, against plain Python over the shop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shop_house import open_house
from shop_logs import Event, Logs, make_logs, write_logs

from features import impression_shards
from features.calendar import day_of, day_start
from features.schemas import events, rollup
from features.schemas import view as view_table
from features.view import View, Windows
from features.views.shop import item_profile, user_now, user_value
from flows.house import House
from flows.stages import at_impressions, read
from flows.stages import view as views

ZONE = "Europe/Berlin"
#: The third has 23 hours.
DAYS = [date(2026, 3, 27) + timedelta(days=n) for n in range(4)]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
VIEWS = (user_value.VIEW, user_now.VIEW)
#: The same as of the impression; a sketch cannot be asked at an instant.
FRESH = replace(
    user_value.VIEW,
    name="user_value_now",
    freshness="event",
    features=tuple(f for f in user_value.VIEW.features if "approx" not in f.name),
)
#: Of windows of hours and of days, what makes the others go.
NONE: tuple[dict[str, Any], ...] = ({"rollup": "", "days": ()}, {"hourly": "", "hours": ()})
VALUES_OF = at_impressions.values_of


def house(root: Path, days: Sequence[date] = DAYS) -> House:
    """A shop whose logs are read, all in one go."""
    write_logs(root / "logs", DAYS)
    opened = open_house(root)
    assert {one.name for one in VIEWS} <= {one.name for one in opened.scenario.views}
    # The labels' completeness goes by the category of an item.
    kept = replace(opened, scenario=replace(opened.scenario, views=(item_profile.VIEW, *VIEWS), on_demand=()))
    for day in days:
        read.run(kept, day, ())
    return kept


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Every day read and rolled up before the next."""
    opened = house(tmp_path_factory.mktemp("daily"), [])
    for day in DAYS:
        read.run(opened, day, ())
        views.run(opened, day, ())
    return opened


@pytest.fixture(scope="module")
def truth() -> Logs:
    return make_logs(DAYS)


def values(shown: Sequence[Event], clicked: Sequence[Event], bought: dict[int, Sequence[Event]]) -> list[Any]:
    """The features of ``user_value`` but for the sketch; purchases by days of the window."""
    spent = {days: [e.cents for e in some if e.cents is not None] for days, some in bought.items()}
    last = max(clicked, key=lambda e: (e.at, known_at(e), e.id), default=None)
    return [
        sum(spent[1]),
        sum(spent[3]),
        sum(spent[3]) / len(spent[3]) if spent[3] else None,
        min(spent[3], default=None),
        max(spent[3], default=None),
        len({e.item for e in clicked}),
        None if last is None else last.item,
    ]


def known_at(event: Event) -> datetime:
    return max(event.at, day_start(event.arrives, ZONE))


def of_user(truth: Logs, source: str) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = defaultdict(list)
    for event in truth.events[source]:
        found[event.user].append(event)
    return found


def test_a_snapshot_holds_what_the_days_before_it_said(daily: House, truth: Logs) -> None:
    logs = {source: of_user(truth, source) for source in ("exposure", "click", "conversion")}
    for valid in [*DAYS, DAYS[-1] + DAY]:
        rows = daily.store.scan(view_table(user_value.VIEW, daily.scenario), [valid]).drop("dt").collect()

        def inside(source: str, user: int, days: int) -> list[Event]:
            return [
                e
                for e in logs[source][user]
                if e.arrives < valid and valid - days * DAY <= day_of(e.at, ZONE) < valid  # noqa: B023
            ]

        sources = ("exposure", "click", "conversion", "refund")
        known = {e.user for s in sources for e in truth.events[s] if e.arrives < valid}
        assert {user for user in known if any(inside(s, user, 3) for s in logs)} <= set(rows["user_id"])
        for user, *found, estimate in rows.iter_rows():
            bought = {days: inside("conversion", user, days) for days in (1, 3)}
            shown = inside("exposure", user, 3)
            assert found == values(shown, inside("click", user, 3), bought)
            exact = len({e.item for e in shown})
            assert abs(estimate - exact) <= max(2, 0.05 * exact)
    assert len(rows) > 200


def test_windows_of_hours_end_with_the_day_also_when_it_has_23(daily: House, truth: Logs) -> None:
    shown, clicked = of_user(truth, "exposure"), of_user(truth, "click")
    for valid in [*DAYS[1:], DAYS[-1] + DAY]:
        end = day_start(valid, ZONE)
        rows = daily.store.scan(view_table(user_now.VIEW, daily.scenario), [valid]).drop("dt").collect()

        def number(log: dict[int, list[Event]], user: int, hours: int = 0) -> int:
            """In the last hours; or else in the day."""
            begin = end - hours * HOUR if hours else day_start(valid - DAY, ZONE)  # noqa: B023
            return sum(e.arrives < valid and begin <= e.at < end for e in log[user])  # noqa: B023

        assert len(rows) > 20
        for user, *found in rows.iter_rows():
            n, clicks = number(shown, user, 6), number(clicked, user, 6)
            smoothed = pytest.approx((min(n, clicks) + 5 * 0.25) / (n + 5))
            assert found == [
                number(shown, user, 1),
                number(clicked, user, 1),
                n,
                number(shown, user),
                smoothed,
            ]


@pytest.mark.parametrize("view", [user_now.VIEW, FRESH], ids=["hours and a day", "days"])
def test_a_view_fresh_by_event_holds_what_was_known_at_each_impression(
    daily: House, truth: Logs, view: View
) -> None:
    logs = {source: of_user(truth, source) for source in ("exposure", "click", "conversion")}
    by_id = {e.id: e for e in truth.events["exposure"]}
    seen_today = 0
    for day in DAYS:
        impressions = daily.store.scan(events(daily.scenario.impressions)).filter(pl.col("day") == day)
        found = at_impressions.values_of(daily, view, day)(impressions)
        assert found.columns == ["impression_id", *(feature.name for feature in view.features)]
        assert found["impression_id"].n_unique() == len(found) > 1_000
        for impression, *row in found.iter_rows():
            shown, t = by_id[impression], by_id[impression].at

            def inside(source: str, window: timedelta) -> list[Event]:
                return [
                    e
                    for e in logs[source][shown.user]  # noqa: B023
                    if t - window <= e.at < t and known_at(e) <= t  # noqa: B023
                ]

            if view is FRESH:
                bought = {days: inside("conversion", days * DAY) for days in (1, 3)}
                assert row == values((), inside("click", 3 * DAY), bought)
            else:
                n, clicks = len(inside("exposure", 6 * HOUR)), len(inside("click", 6 * HOUR))
                smoothed = pytest.approx((min(n, clicks) + 5 * 0.25) / (n + 5))
                counts = [(s, HOUR) for s in ("exposure", "click")] + [
                    ("exposure", w * HOUR) for w in (6, 24)
                ]
                assert row == [*(len(inside(s, w)) for s, w in counts), smoothed]
            seen_today += any(day_start(day, ZONE) <= e.at for e in inside("click", DAY))
    assert seen_today > 100


@pytest.mark.parametrize("view", [user_now.VIEW, FRESH], ids=lambda view: view.name)
def test_shards_and_blocks_say_of_each_impression_what_all_rows_at_once_say(
    daily: House, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Impressions without a user too, of whom nothing is known."""
    some = replace(daily, scenario=replace(daily.scenario, views=(view,)))
    read_whole: list[object] = []
    monkeypatch.setattr(at_impressions, "values_of", lambda *asked: read_whole.append(asked))
    for day in DAYS[-2:]:
        rows = daily.store.scan(events(daily.scenario.impressions)).filter(pl.col("day") == day).drop("dt")
        shown = rows.sort("exposed_at", "impression_id").collect()
        nobody = pl.int_range(pl.len()) % 50 == 0
        shown = shown.with_columns(pl.when(~nobody).then("user_id").alias("user_id"))
        expected = VALUES_OF(daily, view, day)(shown.lazy())
        assert expected.drop("impression_id").unique().height > 100
        for of_block, of_shard in ((500, 2_000), (len(shown), 600)):
            monkeypatch.setattr(impression_shards, "ROWS", of_shard)
            with at_impressions.with_values(some, day, shown.iter_slices(of_block)) as told:
                pairs = list(told)
            assert not read_whole
            assert pl.concat([block for block, _ in pairs]).equals(shown)
            assert [block.height for block, _ in pairs[:-1]] == [of_block] * (len(pairs) - 1)
            assert pl.concat([found[view.name] for _, found in pairs]).equals(expected)
        assert not any(daily.limits.scratch.iterdir())


def test_the_events_read_one_by_one_are_those_of_the_days_that_a_window_cuts(daily: House) -> None:
    arrived = at_impressions.days_of_events
    hours, days = (replace(user_now.VIEW.source, **none) for none in NONE)  # type: ignore[type-var]
    assert arrived(hours, daily.scenario, DAYS[1]) == (DAYS[0], DAYS[1])
    # The 24 hours before the first instant after a day of 23 hours begin on the day before that.
    assert arrived(days, daily.scenario, DAYS[1]) == (DAYS[0], DAYS[1])
    assert arrived(days, daily.scenario, DAYS[3]) == (DAYS[1], DAYS[2], DAYS[3])


def test_rows_at_a_days_start_see_what_the_snapshot_says(tmp_path: Path) -> None:
    """Scoring equals training where both ask the same: nothing of the day has arrived, no day was short."""
    sooner, day = house(tmp_path, DAYS[:2]), DAYS[2]
    for before in DAYS[:2]:
        views.run(sooner, before, ())
    for view, stored in ((user_now.VIEW, user_now.VIEW), (FRESH, user_value.VIEW)):
        known = sooner.store.scan(view_table(stored, sooner.scenario), [day]).collect()
        rows = known.lazy().select(
            "user_id",
            impression_id=pl.int_range(pl.len()).cast(pl.String),
            exposed_at=pl.lit(day_start(day, ZONE)),
        )
        found = at_impressions.values_of(sooner, view, day)(rows)
        names = [feature.name for feature in view.features]
        assert found.select(names).equals(known.select(names))
        assert len(known) > 50


def test_j02_backfilled_backwards_over_days_read_at_once_a_view_has_the_bytes_of_daily_runs(
    daily: House, tmp_path: Path
) -> None:
    tables = [
        *(rollup(declared, daily.scenario) for declared in daily.scenario.rollups),
        *(view_table(declared, daily.scenario) for declared in VIEWS),
    ]

    def live(some: House) -> dict[str, bytes]:
        files = [
            file
            for table in tables
            for day in some.store.days(table)
            for file in some.store.generation(table, day).files  # type: ignore[union-attr]
        ]
        return {str(file.relative_to(some.store.root)): file.read_bytes() for file in files}

    wanted = live(daily)
    assert len(wanted) == len(DAYS) * len(daily.scenario.rollups) + (len(DAYS) + 1) * len(VIEWS)
    other = house(tmp_path)
    # The first pass lacks the roll-ups of the days before; each view says so, and is made again.
    for day in [*reversed(DAYS), *DAYS]:
        views.run(other, day, ())
    assert not any(views.pending(other, day, ()) for day in DAYS)
    assert live(other) == wanted


def test_a_view_reads_only_the_parts_inside_its_windows(daily: House) -> None:
    valid = DAYS[-1] + DAY
    value = views.plan_view(daily, user_value.VIEW, valid).inputs
    now = views.plan_view(daily, user_now.VIEW, valid).inputs
    assert {name for name in value if name.startswith("rollups")} == {
        f"rollups/user_value {valid - n * DAY}" for n in (1, 2, 3)
    }
    assert {name for name in now if name.startswith("rollups")} == {
        f"rollups/{name} {DAYS[-1]}" for name in ("user", "user_hour")
    }
    read_at = at_impressions.sources_of(daily, FRESH, DAYS[-1])
    assert {name for name in read_at if name.startswith("rollups")} == {
        f"rollups/user_value {DAYS[-1] - n * DAY}" for n in (1, 2, 3)
    }


def test_a_windowed_view_says_which_roll_up_each_window_needs() -> None:
    for wrong in ({"days": (1,)}, {"rollup": "user"}, {"hourly": "user_hour"}, {}):
        with pytest.raises(ValueError, match="need a roll-up by day, those of hours one by hour"):
            Windows(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shorter than a day"):
        Windows(hourly="user_hour", hours=(24,))
