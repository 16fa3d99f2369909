"""The registry after three days of the shop: what is declared, what is stale, what models were trained on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from shop_logs import ITEMS, write_logs

from features.bookkeeping import ID_MAPS, METRICS, MODELS
from features.encodings import Dense
from features.errors import OtherFeatures
from features.feature_set import REQUEST, FeatureSet
from features.on_demand import ON_DEMAND
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.view import Windows, attribute, rate
from features.views.shop import user_now
from flows import cli
from flows.house import House
from flows.ledger import finish
from flows.registry import Entry, entries
from flows.registry_report import show
from flows.settings import Settings
from flows.stages import at_impressions, read, sample, train
from flows.stages import view as views
from flows.stages.version import version_of
from flows.stale import rebuild_command

DAYS = [date(2026, 4, 7) + timedelta(days=n) for n in range(3)]
#: A snapshot is valid at the start of every day, and at the start of the day after the last.
VALID = [*DAYS, DAYS[-1] + timedelta(days=1)]
#: Entries whose values are kept in the samples alone.
OF_SAMPLES = (REQUEST, ON_DEMAND)
LINE, TRAINED = "esmm", DAYS[:2]
NAMELESS = 30
ROOT = Path(__file__).resolve().parents[2]
Say = Callable[..., str]


def run(house: House, day: date, lines: tuple[str, ...]) -> None:
    """A day up to its models, entered into the ledger."""
    records = [record for stage in (read, views, sample) for record in stage.run(house, day, ())]
    records += train.run(house, day, lines) if lines else ()
    finish(house, day, records)


def opened(root: Path, scenario: Scenario = SCENARIO) -> House:
    settings = Settings(
        warehouse=root / "warehouse",
        logs={"shop": root / "logs"},
        scenario="shop",
        memory_limit="1GB",
        threads=2,
    )
    return replace(House.open(settings), scenario=scenario)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Three days, of which two were trained; the last catalogue lacks the brand of some products."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
            patch.delenv(name)
        root = tmp_path_factory.mktemp("registered")
        write_logs(root / "logs", DAYS)
        (file,) = (root / "logs" / "item" / f"dt={DAYS[-1]}").iterdir()
        raw = pl.read_parquet(file)
        named = raw["sku"].drop_nulls().unique().sort().head(NAMELESS)
        brand = pl.when(pl.col("sku").is_in(named.implode())).then(None).otherwise("brand_id")
        raw.with_columns(brand.alias("brand_id")).write_parquet(file)
        house = opened(root)
        for day in DAYS:
            run(house, day, (LINE,) if day in TRAINED else ())
        yield house


@pytest.fixture
def house(first: House, tmp_path: Path) -> House:
    """A copy that a test may change."""
    shutil.copytree(first.store.root.parent.parent, tmp_path / "copy")
    return opened(tmp_path / "copy")


@pytest.fixture
def say(first: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """What the command line prints on the three days; the words that went wrong come with their status."""
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(first.settings.warehouse))
    monkeypatch.setenv("FUNNELCAST_SCENARIO", "shop")

    def words(*given: str, status: int = 0, columns: int = 200) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert cli.main(["features", *given]) == status
        said = capsys.readouterr()
        return said.err if status else said.out

    return words


def by_name(house: House, day: date | None = None) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries(house, None, day)}


def test_rows_and_nulls_are_those_that_another_reader_finds_in_the_files(first: House) -> None:
    found = by_name(first)
    assert list(found) == [REQUEST, *(view.name for view in SCENARIO.views), ON_DEMAND]
    for name, entry in found.items():
        shot = entry.snapshot
        assert shot is not None
        table = "samples" if name in OF_SAMPLES else f"features/{name}"
        assert shot.day == (DAYS[-1] if name in OF_SAMPLES else VALID[-1])
        counts = ", ".join(f'count("{feature.name}")' for feature in entry.features)
        files = f"{first.store.root}/{table}/dt={shot.day}/*.parquet"
        with duckdb.connect() as peer:
            told = peer.sql(f"SELECT count(*), {counts} FROM read_parquet('{files}')").fetchall()
        ((rows, *present),) = told
        assert shot.rows == rows > 100
        assert list(shot.nulls.values()) == pytest.approx([1 - count / rows for count in present])
    brand = found["item_profile"].snapshot
    assert brand is not None
    assert (brand.rows, brand.nulls["brand_id"]) == (ITEMS, NAMELESS / ITEMS)


def test_freshness_counts_from_the_day_that_wants_a_snapshot(first: House) -> None:
    for name, entry in by_name(first).items():
        assert (entry.age_days, entry.expired) == ((None, False) if name in OF_SAMPLES else (0, False))
    later = by_name(
        first, VALID[-1] + timedelta(days=4)
    )  # profiles are good for 3 days, the last hours for 1, all else for 7
    assert {name: (e.age_days, e.expired) for name, e in later.items() if name not in OF_SAMPLES} == {
        "item_profile": (4, True),
        "user_activity": (4, False),
        "item_popularity": (4, False),
        "user_value": (4, False),
        "user_now": (4, True),
        "user_sequence": (4, False),
        "item_price": (4, False),
    }
    on_the_edge = by_name(first, VALID[-1] + timedelta(days=3))["item_profile"]
    assert (on_the_edge.age_days, on_the_edge.expired) == (3, False)
    before = by_name(first, DAYS[0] - timedelta(days=1))["item_profile"]
    assert (before.snapshot, before.age_days, before.expired) == (None, None, True)
    then = by_name(first, DAYS[1])["item_profile"].snapshot
    assert then is not None
    assert (then.day, then.nulls["brand_id"]) == (DAYS[1], 0)


def test_lineage_leads_to_queries_and_raw_files_that_are_there(first: House) -> None:
    found = by_name(first)
    for entry in found.values():
        for origin in entry.lineage:
            assert origin.query is None or (ROOT / origin.query).is_file()
            assert list((first.store.root / origin.table).glob("dt=*/*.parquet"))
            if origin.files is not None:
                assert list(first.logs.glob(origin.files.format(day=DAYS[0])))
    assert [origin.table for origin in found["user_activity"].lineage] == [
        "rollups/user", "events/exposure", "events/click", "events/conversion", "events/refund",
    ]  # fmt: skip
    assert [origin.table for origin in found["user_now"].lineage] == [
        "rollups/user", "rollups/user_hour",
        "events/exposure", "events/click", "events/conversion", "events/refund",
    ]  # fmt: skip
    assert [origin.table for origin in found["user_sequence"].lineage] == ["events/click"]


def test_the_lineage_of_a_view_names_all_that_its_snapshots_and_its_rows_are_made_from(first: House) -> None:
    for declared in SCENARIO.views:
        (entry,) = entries(first, declared.name)
        made_from = views.plan_view(first, declared, VALID[-1]).inputs
        if declared.freshness == "event":
            made_from = {**made_from, **at_impressions.sources_of(first, declared, DAYS[-1])}
        read = {name.split()[0] for name in made_from if name not in ("definition", "code")}
        named = {origin.table for origin in entry.lineage}
        # A sequence goes on from its own last snapshot.
        assert read - {declared.table} <= named
        assert entry.source.split()[-1] in {table.split("/")[1] for table in named}


def test_a_view_of_hours_alone_names_their_roll_up(first: House) -> None:
    windows = Windows(hourly="user_hour", hours=(6,))
    hours = replace(user_now.VIEW, source=windows, features=(user_now.VIEW.features[2],))
    scenario = replace(SCENARIO, views=(hours,), on_demand=())
    (entry,) = entries(replace(first, scenario=scenario), hours.name)
    assert entry.source == "roll-up user_hour"
    assert [origin.table for origin in entry.lineage][:2] == ["rollups/user_hour", "events/exposure"]


def with_prior(prior: float) -> Scenario:
    """The shop with another smoothing of one rate of `user_activity`."""
    profile, activity, *rest = SCENARIO.views
    *others, _ = activity.features
    last = rate("user", "conversion", "click", 3, prior=prior, strength=5)
    return replace(SCENARIO, views=(profile, replace(activity, features=(*others, last)), *rest))


def stale(house: House) -> dict[str, list[date]]:
    return {name: list(entry.stale) for name, entry in by_name(house).items() if entry.stale}


def test_a_changed_definition_makes_days_stale_until_the_command_has_run(house: House) -> None:
    assert stale(house) == {}
    changed = replace(house, scenario=with_prior(0.3))
    assert stale(changed) == {"user_activity": VALID}
    assert set(by_name(changed)["user_activity"].stale.values()) == {("definition",)}
    assert rebuild_command(changed, VALID) == f"funnelcast backfill {DAYS[0]} {DAYS[-1]}"
    old, new = by_name(house)["user_activity"].version, by_name(changed)["user_activity"].version
    assert old != new

    views.run(changed, DAYS[1], ())  # makes the snapshots at its start and at its end
    assert stale(changed) == {"user_activity": [VALID[0], VALID[3]]}
    assert rebuild_command(changed, [VALID[3]]) == f"funnelcast backfill {DAYS[2]} {DAYS[2]}"
    for day in DAYS:  # as the command does
        views.run(changed, day, ())
    assert stale(changed) == {}
    assert rebuild_command(changed, ()) is None
    assert stale(house) == {"user_activity": VALID}


def test_a_changed_feature_on_demand_makes_the_samples_stale_until_they_are_made_again(house: House) -> None:
    paid, cut, last_clicked = SCENARIO.on_demand
    percent = replace(paid, expr=paid.expr * 100)
    changed = replace(house, scenario=replace(SCENARIO, on_demand=(percent, cut, last_clicked)))
    assert stale(changed) == {ON_DEMAND: DAYS}
    assert by_name(changed)[ON_DEMAND].version != by_name(house)[ON_DEMAND].version
    assert rebuild_command(changed, (), DAYS[1:]) == f"funnelcast backfill {DAYS[1]} {DAYS[-1]}"
    before = house.store.scan(sample.samples(SCENARIO), DAYS).select("impression_id", paid.name).collect()
    sample.run(changed, DAYS[-1], ())  # restates them all
    assert stale(changed) == {}
    after = house.store.scan(sample.samples(SCENARIO), DAYS).select("impression_id", paid.name).collect()
    both = before.join(after, on="impression_id", validate="1:1").drop_nulls()
    assert (both[f"{paid.name}_right"] == both[paid.name] * 100).all()
    assert both.height > 100
    extra = replace(cut, name="another")
    added = replace(house, scenario=replace(SCENARIO, on_demand=(*SCENARIO.on_demand, extra)))
    (shot,) = (entry.snapshot for entry in entries(added, ON_DEMAND))
    assert shot is not None
    assert shot.nulls["another"] == 1


def test_a_changed_rollup_makes_the_days_stale_that_were_counted_from_it(first: House) -> None:
    rollups = tuple(
        replace(one, counts=("impression", "click")) if one.name == "item" else one
        for one in SCENARIO.rollups
    )
    changed = replace(first, scenario=replace(SCENARIO, rollups=rollups))
    assert stale(changed) == {"item_popularity": VALID}
    reasons = by_name(changed)["item_popularity"].stale
    # Nothing had been counted before the first day, so its snapshot read no roll-up.
    assert reasons[VALID[0]] == ("definition",)
    assert {reasons[day] for day in VALID[1:]} == {("definition", "query of rollups/item")}
    elsewhere = replace(changed, settings=changed.settings.model_copy(update={"scenario": "kuairand"}))
    command = rebuild_command(elsewhere, VALID[1:])
    assert command == f"funnelcast backfill {DAYS[0]} {DAYS[-1]} --scenario shop"


def test_a_view_that_was_never_computed_has_nothing_stale(first: House) -> None:
    fresh = replace(SCENARIO.views[0], name="novel")
    added = replace(first, scenario=replace(SCENARIO, views=(fresh, *SCENARIO.views[1:])))
    entry = by_name(added)["novel"]
    assert (entry.snapshot, dict(entry.stale), entry.expired) == (None, {}, True)


def test_a_model_keeps_the_features_that_it_was_trained_on(first: House) -> None:
    told = first.store.scan(MODELS, TRAINED[-1:], line=LINE).collect().row(0, named=True)
    assert told["feature_set"] == FeatureSet.of(SCENARIO).label
    kept = json.loads(told["features"])
    assert [member["name"] for member in kept["features"]] == [f.name for f in SCENARIO.features]
    registered = {feature.name: entry for entry in by_name(first).values() for feature in entry.features}
    for member in kept["features"]:
        entry = registered[member["name"]]
        assert (member["view"], member["view_version"]) == (entry.name, entry.version)
    lineage = json.loads((first.store.root / told["checkpoint"] / "manifest.json").read_bytes())["lineage"]
    assert (lineage["feature_set"], lineage["features"]) == (told["feature_set"], told["features"])
    version = version_of(first, LINE, TRAINED[-1])
    assert version is not None
    assert version.features == FeatureSet.of(SCENARIO)


def other_features() -> Scenario:
    """The shop with a feature more, one less and one changed."""
    scenario = with_prior(0.3)
    profile, *rest = scenario.views
    category, _, price = profile.features
    cents = attribute("cents", pl.Int64(), Dense(scale="log1p"), "Price in cents.")
    cents = replace(cents, expr=(pl.col("price") * 100).round().cast(pl.Int64))
    return replace(scenario, views=(replace(profile, features=(category, cents, price)), *rest))


def test_a_line_refuses_to_go_on_from_a_model_of_other_features_and_does_as_it_advises(house: House) -> None:
    changed = replace(house, scenario=other_features())
    last = DAYS[-1]
    for day in DAYS:  # restated samples are not joined with snapshots that lack a column
        views.run(changed, day, ())
    for stage in (read, views, sample):
        stage.run(changed, last, ())
    tables = (ID_MAPS, METRICS, MODELS)
    before = [house.store.snapshot(table) for table in tables]
    with pytest.raises(OtherFeatures) as caught:
        train.run(changed, last, (LINE,))
    said = str(caught.value)
    assert (caught.value.code, caught.value.exit_code) == ("E410", 4)
    assert f"model {LINE} of {TRAINED[-1]}: was trained with feature set " in said
    assert f"{FeatureSet.of(SCENARIO).label}, now it is {FeatureSet.of(changed.scenario).label}: " in said
    assert "added cents; removed brand_id; changed user_conversion_per_click_3d. Next: " in said
    assert f"funnelcast backfill {DAYS[0]} {last} trains the line anew" in said
    assert [house.store.snapshot(table) for table in tables] == before

    for day in DAYS:
        run(changed, day, (LINE,))
    labels = house.store.scan(MODELS, line=LINE).sort("dt").select("feature_set", "parent_version").collect()
    assert labels["feature_set"].to_list() == [FeatureSet.of(changed.scenario).label] * 3
    assert labels["parent_version"].is_null().to_list() == [True, False, False]
    assert not train.pending(changed, last, (LINE,))


def test_a_changed_description_is_no_other_feature_set(house: House) -> None:
    profile, *rest = SCENARIO.views
    words = replace(profile, description="Other words.", owner="others")
    changed = replace(house, scenario=replace(SCENARIO, views=(words, *rest)))
    before = house.store.snapshot(MODELS)
    (_, metrics, _, model) = train.run(changed, TRAINED[-1], (LINE,))
    assert metrics.repeated
    assert model.repeated
    assert house.store.snapshot(MODELS) == before


def test_the_list_names_views_versions_and_freshness(say: Say) -> None:
    shown = say()
    assert f"feature set {FeatureSet.of(SCENARIO).label}" in shown
    (profile,) = (line for line in shown.splitlines() if line.lstrip().startswith("item_profile"))
    for told in ("item_id", "source item", str(VALID[-1]), "0 of 3 d", f"{ITEMS}", "8.3%", "shop"):
        assert told in profile
    assert "Stale" not in shown
    for columns in (80, 200):  # names that one copies are never cut off
        assert all(f"{view.name} " in say(columns=columns) for view in SCENARIO.views)


def test_one_view_is_shown_with_its_fields_and_its_lineage(say: Say) -> None:
    shown = say("--view", "user_activity")
    for feature in SCENARIO.views[1].features:
        (line,) = (line for line in shown.splitlines() if line.lstrip().startswith(feature.name))
        assert str(feature.dtype) in line
        assert f" {feature.default} " in line
    assert "sql/rollups/shop/user.sql" in shown
    assert "events/click, by sql/logs/shop/click.sql, raw click/dt={day}/*.parquet" in shown
    assert "surface" in say("--view", REQUEST)
    assert "clocks    occurred_at, known at arrived_at" in say("--view", "item_price")


def test_a_view_of_days_and_of_hours_shows_both_roll_ups(say: Say) -> None:
    shown = say("--view", "user_now")
    assert "reads     rollups/user, by sql/rollups/shop/user.sql" in shown
    assert "rollups/user_hour, by sql/rollups/shop/user_hour.sql" in shown
    assert "roll-ups user, user_hour" in say()


def test_features_on_demand_lead_to_the_columns_and_views_that_they_read(say: Say) -> None:
    shown = say("--view", ON_DEMAND)
    assert (
        "price_per_mean_paid from item_profile.price, user_value.user_conversion_amount_cents_mean_3d"
        in shown
    )
    assert "is_last_clicked from request.item_id, user_value.user_click_item_id_last_3d" in shown
    tables = ("features/user_value", "features/item_profile", "features/item_price", "events/exposure")
    assert all(table in shown for table in tables)
    assert "features/user_now" not in shown
    assert f"newest    {DAYS[-1]}" in shown


def test_machines_are_told_everything(say: Say) -> None:
    told = json.loads(say("--json"))
    assert [view["name"] for view in told["views"]] == [
        REQUEST,
        *(view.name for view in SCENARIO.views),
        ON_DEMAND,
    ]
    fields = [field for view in told["views"] for field in view["fields"]]
    assert [field["name"] for field in fields] == [feature.name for feature in SCENARIO.features]
    assert [field["description"] for field in fields] == [f.description for f in SCENARIO.features]
    assert (told["rebuild"], told["feature_set"]) == (None, FeatureSet.of(SCENARIO).label)
    profile = told["views"][1]
    assert (profile["wanted"], profile["age_days"], profile["max_age_days"]) == (str(VALID[-1]), 0, 3)
    (alone,) = json.loads(say("--view", "item_profile", "--json"))["views"]
    assert alone == profile
    (last_clicked,) = (field for field in fields if field["name"] == "is_last_clicked")
    assert last_clicked["reads"] == ["request.item_id", "user_value.user_click_item_id_last_3d"]


def test_a_score_leads_to_its_features_by_way_of_its_model(say: Say, first: House) -> None:
    label = FeatureSet.of(SCENARIO).label
    files = f"{first.store.root}/models/dt={TRAINED[-1]}/line={LINE}/*.parquet"
    query = f"SELECT model_version, feature_set FROM read_parquet('{files}')"
    with duckdb.connect() as peer:
        ((model_version, feature_set),) = peer.sql(query).fetchall()
    shown = json.loads(say("--set", feature_set, "--json"))
    assert (shown["feature_set"], shown["declared"]) == (label, label)
    assert {"day": str(TRAINED[-1]), "line": LINE, "model_version": model_version} in shown["models"]
    assert [member["name"] for member in shown["features"]] == [f.name for f in SCENARIO.features]
    for words in (
        ("--line", LINE),
        ("--set", label.partition("@")[2][:6]),
        ("--line", LINE, "--date", str(DAYS[0])),
    ):
        text = say(*words)
        assert f"Feature set {label}: {len(SCENARIO.features)} features" in text
        assert f"Trained on it: {LINE}, 2 versions, {TRAINED[0]} to {TRAINED[-1]}" in text
        assert "It is the one that is declared now." in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--view", "item_profle"], "view 'item_profle' of scenario 'shop': unknown"),
        (["--view", "item_profle"], "did you mean 'item_profile'?"),
        (["--line", "esm"], "did you mean 'esmm'?"),
        (
            ["--line", LINE, "--date", str(DAYS[2])],
            f"was not trained on {DAYS[2]}. Next: name one of its days",
        ),
        (["--set", "none"], "feature set 'none' of scenario 'shop': unknown; known are shop@"),
        (["--set", "shop", "--line", LINE], "several of --view, --set and --line"),
        (["--date", "soon"], "date: 'soon' is no date"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_name(say: Say, words: list[str], said: str) -> None:
    (line,) = say(*words, status=2).splitlines()
    assert line.startswith("E201 UsageError: ")
    assert said in line


def test_the_list_needs_neither_models_nor_logs(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In an empty folder it lists what is declared, and torch and Prefect are not even imported."""
    script = (
        "import sys; from flows.cli import main; main(['features']); "
        "print(sorted({'torch', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "user_sequence" in done.stdout
    assert not (elsewhere / "warehouse").exists()


def test_a_set_that_two_days_do_not_share_is_told_apart(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = replace(house, scenario=other_features())
    show(changed, view=None, feature_set=None, line=LINE, day=None, as_json=False)
    shown = capsys.readouterr().out
    assert (
        f"Declared now: {FeatureSet.of(changed.scenario).label}. Since then: added cents; removed brand_id"
        in shown
    )
    show(changed, view="item_profile", feature_set=None, line=None, day=None, as_json=False)
    shown = capsys.readouterr().out
    assert f"Stale: item_profile of {VALID[0]} to {VALID[-1]}, 4 days, made from another definition" in shown
    assert f"Next: funnelcast backfill {DAYS[0]} {DAYS[-1]}" in shown
