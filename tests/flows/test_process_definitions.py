"""What a changed declaration makes stale, and what is refused before anything is joined; J05 and J08."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_house import copy_house, live_tables, open_house, run, tree
from shop_logs import write_logs

import sql
from features.encodings import Dense
from features.errors import BadWarehouse, MissingStage, SchemaDrift
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.schemas import rollup, samples, view
from features.view import LastEvents, View, Windows, attribute, count
from flows.house import House
from flows.stages import read, sample
from flows.stages import view as views
from flows.stages.sample import plan_sample
from flows.stages.settle import live

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(3)]
LAST = DAYS[-1]
VIEWS = {one.name: one for one in SCENARIO.views}
PROFILE, ACTIVITY = VIEWS["item_profile"], VIEWS["user_activity"]
ROOT = Path(sql.__file__).parent


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("walk") / "days"
    write_logs(root / "logs", DAYS)
    house = open_house(root)
    run(house, *DAYS)
    return house


def with_view(changed: View) -> Scenario:
    return replace(SCENARIO, views=tuple(changed if v.name == changed.name else v for v in SCENARIO.views))


def stale(house: House) -> set[str]:
    """Tables of the last day that today's declarations would make anew; ``read`` for those of events."""
    plans = [
        *(views.plan_rollup(house, declared, LAST) for declared in house.scenario.rollups),
        *(views.plan_view(house, declared, LAST) for declared in house.scenario.views),
        plan_sample(house, LAST, LAST),
    ]
    return {plan.table.name for plan in plans if live(house.store, plan) is None} | (
        {"read"} if read.pending(house, LAST, ()) else set()
    )


def shorter() -> View:
    """The activity of users over two days instead of three."""
    return replace(
        ACTIVITY, source=Windows(rollup="user", days=(2,)), features=(count("user", "impression", 2),)
    )


def later_clicks() -> Scenario:
    click, *others = SCENARIO.events
    return replace(SCENARIO, events=(replace(click, late_days=2), *others))


CHANGES: dict[str, tuple[Scenario, set[str]]] = {
    "nothing": (SCENARIO, set()),
    "words": (with_view(replace(PROFILE, owner="others", description="Other words.")), set()),
    "the max age": (with_view(replace(PROFILE, max_age_days=2)), {PROFILE.table}),
    "the window": (with_view(shorter()), {ACTIVITY.table, "samples"}),
    "the length of a sequence": (
        with_view(replace(VIEWS["user_sequence"], source=LastEvents(source="click", length=4))),
        {"features/user_sequence"},
    ),
    "the delay of a delivery": (later_clicks(), {"read"}),
    "the delay that labels wait for": (replace(SCENARIO, lateness=timedelta(hours=2)), {"samples"}),
    "the zone": (replace(SCENARIO, zone="UTC"), {"read", *(one.table for one in SCENARIO.views)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_j05_a_changed_declaration_is_another_key_of_what_follows_from_it(walk: House, change: str) -> None:
    scenario, expected = CHANGES[change]
    assert stale(replace(walk, scenario=scenario)) == expected


Rewrite = Callable[[str, str, str], None]


@pytest.fixture
def rewrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rewrite:
    """Replaces a text in a query, in a copy of all queries."""
    copy = tmp_path / "sql"
    shutil.copytree(Path(sql.__file__).parent, copy)
    monkeypatch.setattr(sql, "files", lambda package: copy)

    def change(query: str, old: str, new: str) -> None:
        file = copy / f"{query}.sql"
        text = file.read_text("utf-8")
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), "utf-8")

    return change


def test_j05_a_comment_in_a_query_changes_no_key(walk: House, rewrite: Rewrite) -> None:
    for query in ("rollups/shop/user", "logs/shop/click"):
        rewrite(query, "-- grain:", "-- note: of all users\n--  and more\n-- grain:")
        rewrite(query, "\nSELECT\n    user_id", "\nSELECT -- who\n\n    user_id") if "user" in query else None
    assert stale(walk) == set()


def test_j05_another_text_of_a_query_is_another_key(walk: House, rewrite: Rewrite) -> None:
    rewrite("rollups/shop/user", "kind = 'exposure'", "kind IN ('exposure', 'click')")
    assert stale(walk) == {"rollups/user", ACTIVITY.table}
    rewrite("logs/shop/click", "click_id", "click_id ")
