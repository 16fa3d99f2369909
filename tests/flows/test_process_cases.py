"""Days that are run twice, lost, or cut off in the middle; process cases J01, J03, J06 and J07."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from shop_house import (
    STAGES,
    TABLES,
    backfill,
    copy_house,
    deliver,
    drop,
    live,
    live_tables,
    open_house,
    pending,
    run,
    tree,
)
from shop_logs import ITEMS, write_logs

from features.bookkeeping import QUARANTINE
from features.errors import MissingStage, UsageError
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.schemas import rollup, samples, view
from features.view import View
from flows.house import House
from flows.request import Request
from flows.stages import read, sample
from flows.stages import view as views
from flows.stale import stale_days

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(3)]
LAST = DAYS[-1]
SAMPLES = samples(SCENARIO)
USER = next(declared for declared in SCENARIO.rollups if declared.name == "user")
PROFILE = next(one for one in SCENARIO.views if one.name == "item_profile")
ACTIVITY = view(next(one for one in SCENARIO.views if one.name == "user_activity"), SCENARIO)
ROOT = Path(__file__).resolve().parents[2]
#: Makes the samples of a day and is killed when their files have their names and no commit tells of them.
KILLED = """
import os, signal, sys
from datetime import date
from pathlib import Path
from shop_house import open_house
from features.staging import Staged
from features.store import Store
from flows.stages import sample

commit = Store.commit

def die_before_samples(store, staged):
    parts = [staged] if isinstance(staged, Staged) else list(staged)
    if parts[0].table.name == "samples":
        os.kill(os.getpid(), signal.SIGKILL)
    return commit(store, parts)

Store.commit = die_before_samples
sample.run(open_house(Path(sys.argv[1])), date.fromisoformat(sys.argv[2]), ())
"""


@dataclass(frozen=True)
class Walk:
    """Three days, and the same warehouse as it stood with the last day up to its views."""

    house: House
    before_samples: House


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    root = tmp_path_factory.mktemp("walk")
    write_logs(root / "days" / "logs", DAYS)
    house = open_house(root / "days")
    run(house, *DAYS[:2])
    for stage in STAGES[:2]:
        stage.run(house, LAST, ())
    before_samples = copy_house(house, root / "before")
    run(house, LAST)
    return Walk(house, before_samples)


@pytest.fixture
def house(walk: Walk, tmp_path: Path) -> House:
    """A copy that a test may change."""
    return copy_house(walk.house, tmp_path / "copy")


def test_j01_a_day_that_is_run_twice_leaves_every_byte_and_appends_no_row(walk: Walk) -> None:
    before = tree(walk.house)
    for day in (LAST, DAYS[0], LAST):
        assert all(record.repeated for record in run(walk.house, day))
    assert tree(walk.house) == before


def test_j01_a_day_that_is_made_again_from_nothing_gives_the_same_bytes_once(
    walk: Walk, house: House
) -> None:
    """Every table loses the last day, the snapshots of its end too; its files are removed."""
    end = LAST + timedelta(days=1)
    for table in (*TABLES, QUARANTINE):
        for day in (LAST, end):
            if day in house.store.days(table):
                drop(house, table, day)
            for file in house.store.folder(table).glob(f"dt={day}/**/*.parquet"):
                file.unlink()
    assert house.store.days(SAMPLES) == DAYS[:2]
    assert not all(record.repeated for record in run(house, LAST))
    assert live_tables(house) == live_tables(walk.house)
    assert live(house, QUARANTINE) == live(walk.house, QUARANTINE)


def test_j03_a_hole_behind_the_newest_day_is_found_by_what_is_missing(walk: Walk, house: House) -> None:
    """A day's samples, and of what they were made from only one of many: the newest day stands in all."""
    first, middle, last = DAYS
    drop(house, SAMPLES, middle)
    drop(house, ACTIVITY, middle)
    for table in (SAMPLES, ACTIVITY):
        assert max(house.store.days(table)) >= last
    assert pending(house, middle) == ["view", "sample"]
    assert "view" in pending(house, first)  # the view's snapshot at its end is the one that is gone
    assert backfill(house, DAYS) == DAYS  # the last day restates the samples that are there again
    assert [pending(house, day) for day in DAYS] == [[], [], []]
    assert live_tables(house) == live_tables(walk.house)


def test_j03_parts_that_a_later_window_needs_are_missed_by_the_days_of_that_window(
    walk: Walk, house: House
) -> None:
    parts = rollup(USER, SCENARIO)
    drop(house, parts, DAYS[0])
    # The last day has all that it wrote; its snapshots count three days of which one is not told any more.
    assert all(LAST in house.store.days(table) for table in (parts, ACTIVITY, SAMPLES))
    assert [day for day in DAYS if "view" in pending(house, day)] == DAYS
    assert backfill(house, DAYS) == DAYS[:1]  # from equal parts follows what is there
    assert [pending(house, day) for day in DAYS] == [[], [], []]
    assert live_tables(house) == live_tables(walk.house)


def test_j03_the_snapshot_of_a_restated_day_is_made_again_and_no_older_one_takes_its_place(
    walk: Walk, house: House
) -> None:
    """Of a day before the run's own only one view's snapshot is gone; its samples are there and restated."""
    _, middle, last = DAYS
    drop(house, ACTIVITY, middle)
    drop(house, SAMPLES, last)
    # Its own run would not touch it, were it not for what it restates.
    assert pending(house, last) == ["view", "sample"]
    with pytest.raises(MissingStage, match=rf"^E407 .*features/user_activity of {middle}: not there"):
        sample.run(house, last, ())
    run(house, last)
    assert live_tables(house) == live_tables(walk.house)


def test_j03_parts_that_are_gone_are_made_again_by_the_run_that_counts_them(walk: Walk, house: House) -> None:
    """Both a part of the window and the snapshot that counts it; the newest run alone."""
    parts, end = rollup(USER, SCENARIO), LAST + timedelta(days=1)
    drop(house, parts, DAYS[0])
    drop(house, ACTIVITY, end)
    run(house, LAST)
    assert live_tables(house) == live_tables(walk.house)


def test_a_day_that_was_never_read_is_a_gap_until_it_is(walk: Walk, tmp_path: Path) -> None:
    """Attributes say nothing beyond their max age; a history goes as far back as its own allows."""
    logs, first, far = walk.house.logs, DAYS[0], DAYS[2]
    brief = replace(PROFILE, max_age_days=0)
    wide = replace(PROFILE, max_age_days=1)

    def catalogue(name: str, scenario: Scenario, days: tuple[date, ...]) -> tuple[House, dict[date, int]]:
        house = open_house(tmp_path / name, scenario)
        deliver(logs, house.logs, days)
        for day in days:
            read.run(house, day, ())
            views.run(house, day, ())
        table = view(PROFILE, scenario)
        return house, {
            day: house.store.scan(table, [day]).collect().height for day in house.store.days(table)
        }

    def alone(changed: View) -> Scenario:
        return replace(SCENARIO, views=(changed,), on_demand=(), rollups=())

    house, found = catalogue("brief", alone(brief), (first, far))
    # Delivered on the first day: known at its end, and a day old at the start of the third.
    assert found == {first: 0, DAYS[1]: ITEMS, far: 0, far + timedelta(days=1): ITEMS}
    _, found = catalogue("wide", alone(wide), (first, far))
    assert found == {first: 0, DAYS[1]: ITEMS, far: ITEMS, far + timedelta(days=1): ITEMS}
    # Once the gap is read, what was made without it is stale.
    deliver(logs, house.logs, [DAYS[1]])
    read.run(house, DAYS[1], ())
    assert list(stale_days(house, brief, {})) == [far]
    assert views.pending(house, DAYS[1], ())
    views.run(house, DAYS[1], ())
    assert stale_days(house, brief, {}) == {}
    assert house.store.scan(view(brief, house.scenario), [far]).collect().height == ITEMS


def test_j06_a_range_that_ends_in_the_future_is_refused(walk: Walk) -> None:
    before = tree(walk.house)
    request = Request(walk.house, ())
    today = datetime.now(ZoneInfo(SCENARIO.zone)).date()
    for end in (today, today + timedelta(days=1), today + timedelta(days=400)):
        with pytest.raises(
            UsageError, match=rf"^E201 UsageError: date {end}: not over yet.*Next: name a day"
        ):
            request.days(DAYS[0], end)
    assert request.days(DAYS[0], LAST) == tuple(DAYS)
    assert request.days(today - timedelta(days=1), today - timedelta(days=1))
    with pytest.raises(UsageError, match=rf"^E201 .*{DAYS[0]} is before {LAST}"):
        request.days(LAST, DAYS[0])
    assert tree(walk.house) == before


def test_j07_a_run_killed_between_data_and_commit_is_done_again(walk: Walk, tmp_path: Path) -> None:
    house = copy_house(walk.before_samples, tmp_path / "killed")
    assert pending(house, LAST) == ["sample"]
    before = live_tables(house)
    root = str(house.settings.warehouse.parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, root, str(LAST)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    orphans = list(house.store.folder(SAMPLES).glob(f"dt={LAST}/*.parquet"))
    assert len(orphans) == 1
    assert live_tables(house) == before
    assert pending(house, LAST) == ["sample"]
    made = [record for record in run(house, LAST) if record.table == SAMPLES.name]
    assert [record.repeated for record in made] == [False] * 3
    assert live_tables(house) == live_tables(walk.house)
