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
from features.schemas import events, samples, view
from features.view import Feature, LastEvents, View, Windows, attribute, count
from flows.house import House
from flows.stages import read, sample
from flows.stages import view as views
from flows.stages.sample import plan_sample
from flows.stages.settle import live

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(3)]
LAST, END = DAYS[-1], DAYS[-1] + timedelta(days=1)
VIEWS = {one.name: one for one in SCENARIO.views}
PROFILE, ACTIVITY = VIEWS["item_profile"], VIEWS["user_activity"]


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
    rewrite("rollups/shop/user", "-- grain:", "-- owner:    shop\n-- grain:")
    rewrite("rollups/shop/user", "AS click,", "/* of what kind soever */ AS click,  -- clicks")
    rewrite("logs/shop/click", "-- grain:", "-- owner:    shop\n-- grain:")
    assert stale(walk) == set()


def test_j05_another_text_of_a_query_is_another_key(walk: House, rewrite: Rewrite) -> None:
    rewrite("rollups/shop/user", "kind = 'exposure'", "kind IN ('exposure', 'click')")
    sources = {one.table: one.source for one in SCENARIO.views}
    counted = {
        table for table, source in sources.items() if isinstance(source, Windows) and source.rollup == "user"
    }
    assert stale(walk) == {"rollups/user", *counted}
    assert ACTIVITY.table in counted
    rewrite("logs/shop/click", "placed.copy > 1", "placed.copy > 2")
    assert "read" in stale(walk)


def test_j05_a_snapshot_is_never_counted_from_parts_of_two_queries(
    walk: House, tmp_path: Path, rewrite: Rewrite
) -> None:
    """Impressions and clicks are counted as one, from the run of the last day on."""
    house = copy_house(walk, tmp_path / "copy")
    before = activity(house)
    rewrite("rollups/shop/user", "kind = 'exposure'", "kind IN ('exposure', 'click')")
    views.run(house, LAST, ())
    logs = [walk.store.scan(events(walk.scenario.source(name))) for name in ("exposure", "click")]
    happened = pl.concat([log.select("user_id", "day") for log in logs]).collect()
    expected = dict(happened["user_id"].value_counts().rows())
    after = activity(house)
    counted = after[END].filter(pl.col("user_impression_count_3d") > 0)
    assert dict(counted.select("user_id", "user_impression_count_3d").rows()) == expected
    assert not after[LAST].equals(before[LAST])
    for day in DAYS[:2]:  # not made anew, and listed as such
        assert after[day].equals(before[day])


def test_j05_a_longer_sequence_is_not_begun_from_a_shorter_one(walk: House, tmp_path: Path) -> None:
    longer = replace(VIEWS["user_sequence"], source=LastEvents(source="click", length=9))
    house = copy_house(walk, tmp_path / "copy", with_view(longer))
    views.run(house, LAST, ())
    clicks = walk.store.scan(events(walk.scenario.source("click"))).collect()
    lengths = {user: min(n, 9) for user, n in clicks["user_id"].value_counts().rows()}
    assert max(lengths.values()) > 5
    found = house.store.scan(view(longer, house.scenario), [END]).collect()
    assert dict(zip(found["user_id"], found["user_last_clicked_items"].list.len(), strict=True)) == lengths


def activity(house: House) -> dict[date, pl.DataFrame]:
    table = house.store.scan(view(ACTIVITY, SCENARIO)).collect()
    return {day: table.filter(pl.col("dt") == day) for day in (*DAYS, END)}


Spoil = Callable[[pl.DataFrame], pl.DataFrame]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda rows: rows.drop("brand_id"), r"column 'brand_id': missing, expected BIGINT"),
    "another type": (
        lambda rows: rows.cast({"brand_id": pl.String}),
        r"column 'brand_id': type VARCHAR, expected BIGINT",
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_j08_a_column_of_a_source_stops_the_day_before_anything_is_joined(
    walk: House, tmp_path: Path, kind: str
) -> None:
    spoil, said = SPOILED[kind]
    house = copy_house(walk, tmp_path / "copy")
    for folder in house.logs.glob(f"*/dt={LAST}"):
        shutil.copytree(folder, folder.parent / f"dt={END}")
    (file,) = house.logs.glob(f"item/dt={END}/*.parquet")
    spoil(pl.read_parquet(file)).write_parquet(file)
    before = tree(house)
    with pytest.raises(SchemaDrift, match=rf"^E404 .*item/dt={END}.*{said}"):
        read.run(house, END, ())
    with pytest.raises(MissingStage, match=rf"^E407 .*of {END}: not there.*run the stage read"):
        views.run(house, END, ())
    with pytest.raises(MissingStage, match=rf"^E407 .*of {END}: not there"):
        sample.run(house, END, ())
    assert tree(house) == before


def with_profile(feature: Feature) -> Scenario:
    """The shop, whose products have this feature instead of their price."""
    *others, _ = PROFILE.features
    changed = replace(PROFILE, features=(*others, feature))
    views = tuple(changed if v is PROFILE else v for v in SCENARIO.views)
    return replace(SCENARIO, views=views, on_demand=())


CENTS = attribute("cents", pl.Int64(), Dense(scale="log1p"), "Price in cents.")
COLUMNS: dict[str, tuple[Feature, str]] = {
    "missing": (replace(CENTS, expr=(pl.col("price") * 100).round()), "missing column 'cents'"),
    "another type": (
        replace(CENTS, name="price", expr=pl.col("price")),
        "column 'price' is Float64, declared Int64",
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_j08_a_snapshot_without_a_declared_column_is_not_joined(
    walk: House, tmp_path: Path, kind: str
) -> None:
    """The declaration was changed, and the snapshots are those of before."""
    feature, said = COLUMNS[kind]
    house = copy_house(walk, tmp_path / "copy", with_profile(feature))
    before = live_tables(house)
    with pytest.raises(BadWarehouse, match=rf"^E503 .*features/item_profile/dt={DAYS[0]}.*{said}"):
        sample.run(house, LAST, ())
    assert live_tables(house) == before


def test_j08_a_column_of_another_type_is_not_written_beside_the_old(walk: House, tmp_path: Path) -> None:
    house = copy_house(walk, tmp_path / "copy", with_profile(COLUMNS["another type"][0]))
    before = live_tables(house)[PROFILE.table]
    with pytest.raises(BadWarehouse, match=r"^E503 .*item_profile: column 'price' is .*double.*Next: give"):
        views.run(house, LAST, ())
    assert live_tables(house)[PROFILE.table] == before


def test_j08_a_new_column_is_there_once_all_days_are_made_anew(walk: House, tmp_path: Path) -> None:
    house = copy_house(walk, tmp_path / "copy", with_profile(COLUMNS["missing"][0]))
    for day in DAYS:
        views.run(house, day, ())
    sample.run(house, LAST, ())
    found = house.store.scan(samples(house.scenario)).collect()
    known = walk.store.scan(samples(SCENARIO)).collect()
    cents = (known["price"] * 100).round().cast(pl.Int64)
    assert found["cents"].equals(cents.alias("cents"))
    assert cents.null_count() < cents.len()
