"""What changes the version of a view and of a feature set, and what does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import sql
from features import scenarios
from features.encodings import Dense
from features.feature_set import REQUEST, Difference, FeatureSet
from features.on_demand import ON_DEMAND
from features.scenario import Scenario
from features.scenarios.shop import CATALOGUE
from features.scenarios.shop import SCENARIO as SHOP
from features.versions import on_demand_version, request_version, view_version, without_comments
from features.view import Feature, View, Windows, attribute, rate

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {view.name: view for view in SHOP.views}
PROFILE, ACTIVITY = BY_NAME["item_profile"], BY_NAME["user_activity"]
POPULARITY, SEQUENCE = BY_NAME["item_popularity"], BY_NAME["user_sequence"]
#: One view of each kind over the two simplest roll-ups.
SCENARIO = replace(
    SHOP,
    views=(PROFILE, ACTIVITY, POPULARITY, SEQUENCE),
    on_demand=(),
    rollups=tuple(rollup for rollup in SHOP.rollups if rollup.name in ("user", "item")),
)
Change = Callable[[View], View]


def parsed(query: str) -> object:
    """What DuckDB's own parser makes of a query, but for where in the text it found it."""

    def tree(node: object) -> object:
        if isinstance(node, dict):
            return {key: tree(held) for key, held in node.items() if not key.startswith("query_location")}
        return [tree(held) for held in node] if isinstance(node, list) else node

    with duckdb.connect() as connection:
        (told,) = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [query]).fetchall()[0]
    found = json.loads(told)
    assert not found["error"], found
    return tree(found)


@pytest.mark.parametrize("name", sql.names())
def test_a_query_without_its_comments_is_parsed_as_the_same_query(name: str) -> None:
    text = sql.load(name).text
    assert parsed(without_comments(text)) == parsed(text)
    commented = "-- more\n" + text.replace("\n", " -- and 'more'\n/* x */\n")
    assert without_comments(commented) == without_comments(text)


def test_what_only_looks_like_a_comment_stays() -> None:
    query = "SELECT 'ü -- no', \"/* no */\", $$-- no$$ -- yes\n, 1"
    assert parsed(without_comments(query)) == parsed(query)
    assert without_comments(query).count("no") == 3
    assert "yes" not in without_comments(query)


def with_prior(view: View, prior: float) -> tuple[Feature, ...]:
    """The view's features, with the rates of clicks smoothed towards ``prior``."""
    first, _, _, last = view.features
    return (
        first,
        *(rate("user", "click", "impression", days, prior=prior, strength=5) for days in (1, 3)),
        last,
    )


def other_first(**changed: object) -> Change:
    def change(view: View) -> View:
        first, *rest = view.features
        return replace(view, features=(replace(first, **changed), *rest))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda v: replace(v, keys=("user_id", "item_id")),
        lambda v: replace(v, max_age_days=8),
        lambda v: replace(v, source=Windows(rollup="user", days=(1, 2))),
        lambda v: replace(v, source=Windows(rollup="item", days=(1, 3))),
        lambda v: replace(v, features=v.features[1:]),
        lambda v: replace(v, features=v.features[::-1]),
        lambda v: replace(v, features=with_prior(v, 0.26)),
        other_first(default=1),
        other_first(dtype=pl.Int32()),
        other_first(encoding=Dense(scale="log1p", center=2.5, spread=1.5)),
        other_first(expr=pl.col("impression_3d") + 1),
        other_first(range=(0, 9)),
    ],
)
def test_what_a_view_declares_is_in_its_version(change: Change) -> None:
    assert view_version(SCENARIO, change(ACTIVITY)) != view_version(SCENARIO, ACTIVITY)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: replace(v, description="Other words.", owner="others"),
        lambda v: replace(v, features=tuple(replace(f, description="Other words.") for f in v.features)),
        lambda v: replace(v, features=with_prior(v, 0.25)),
    ],
)
def test_words_and_equal_declarations_leave_the_version_alone(change: Change) -> None:
    assert view_version(SCENARIO, change(ACTIVITY)) == view_version(SCENARIO, ACTIVITY)


def versions(scenario: Scenario) -> dict[str, str]:
    return {view.name: view_version(scenario, view) for view in scenario.views}


def changed(scenario: Scenario) -> set[str]:
    before, after = versions(SCENARIO), versions(scenario)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_what_lies_below_a_view_is_in_its_version_and_in_no_other() -> None:
    user, item = SCENARIO.rollups
    assert changed(replace(SCENARIO, rollups=(replace(user, counts=("impression",)), item))) == {
        "user_activity"
    }
    assert changed(replace(SCENARIO, rollups=(user, replace(item, query=user.query)))) == {"item_popularity"}
    pennies = CATALOGUE.schema.set(3, pa.field("price", pa.int64()))
    assert changed(replace(SCENARIO, attributes=(replace(CATALOGUE, schema=pennies),))) == {"item_profile"}
    assert changed(replace(SCENARIO, zone="Europe/Lisbon")) == set(versions(SCENARIO))
    assert changed(replace(SCENARIO, candidates=replace(SCENARIO.candidates, items=9))) == set()


def test_a_comment_in_the_query_of_a_rollup_leaves_the_version_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, load = versions(SCENARIO), sql.load

    def rewritten(name: str) -> sql.Query:
        return sql.Query(name, load(name).text.replace("FROM events", "FROM events -- of the day"))

    def other(name: str) -> sql.Query:
        return sql.Query(name, load(name).text.replace("'click'", "'clack'"))

    monkeypatch.setattr(sql, "load", rewritten)
    assert versions(SCENARIO) == before
    monkeypatch.setattr(sql, "load", other)
    assert changed_since(before) == {"user_activity", "item_popularity"}


def changed_since(before: dict[str, str]) -> set[str]:
    return {name for name, version in versions(SCENARIO).items() if version != before[name]}


@pytest.mark.parametrize("name", scenarios.names())
def test_versions_are_the_same_in_every_process(name: str) -> None:
    script = (
        "import sys; from features import scenarios; from features.feature_set import FeatureSet; "
        "print(FeatureSet.of(scenarios.get(sys.argv[1])).text)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script, name],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {FeatureSet.of(scenarios.get(name)).text}


@pytest.mark.parametrize("name", scenarios.names())
def test_a_set_names_every_feature_once_in_the_order_in_which_models_read_them(name: str) -> None:
    scenario = scenarios.get(name)
    told = FeatureSet.of(scenario)
    assert [member.name for member in told.members] == [feature.name for feature in scenario.features]
    assert [m.name for m in told.members if m.view == REQUEST] == [f.name for f in scenario.context]
    by_view = {member.view: member.view_version for member in told.members}
    expected = {**versions_of(scenario), REQUEST: request_version(scenario)}
    assert by_view == expected | ({ON_DEMAND: on_demand_version(scenario)} if scenario.on_demand else {})
    assert [m.name for m in told.members if m.view == ON_DEMAND] == [f.name for f in scenario.on_demand]
    assert FeatureSet.from_text(told.text) == told
    assert told.label == f"{name}@{told.version}"


def versions_of(scenario: Scenario) -> dict[str, str]:
    return {view.name: view_version(scenario, view) for view in scenario.views}


def test_the_difference_of_two_sets_names_what_was_done() -> None:
    category, _, price = PROFILE.features
    dear = attribute("dear", pl.Float64(), Dense(scale="log1p"), "A price.")
    dearer = replace(price, encoding=Dense(scale="log1p", center=3.0))
    then = FeatureSet.of(SCENARIO)
    now = FeatureSet.of(
        replace(
            SCENARIO,
            views=(
                replace(PROFILE, features=(category, dearer, dear)),
                replace(ACTIVITY, max_age_days=9),
                POPULARITY,
                SEQUENCE,
            ),
        )
    )
    found = now.difference(then)
    assert (found.added, found.removed, found.changed) == (("dear",), ("brand_id",), ("price",))
    assert (found.views, found.reordered) == (("user_activity",), False)
    assert str(found) == (
        "added dear; removed brand_id; changed price; another version of view user_activity"
    )
    back = then.difference(now)
    assert (back.added, back.removed) == (("brand_id",), ("dear",))
    assert not then.difference(then)


def test_another_order_is_another_set_because_columns_would_change_places() -> None:
    then = FeatureSet.of(SCENARIO)
    now = FeatureSet.of(replace(SCENARIO, views=(ACTIVITY, PROFILE, POPULARITY, SEQUENCE)))
    assert now.version != then.version
    found = now.difference(then)
    assert found == Difference(reordered=True)
