"""F20, F21, F31, F35: a day whose figures are out of their bands waits until somebody answers for it."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from fault_house import FIRST, SECOND, delivery, open_house, published, rewrite

from features.bookkeeping import RUNS
from features.errors import BlockedDay
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from features.validation.bands import BANDS, QUALITY, Band
from flows import cli
from flows.day import close, pending
from flows.house import House
from flows.stages import quality, validate

DAY = timedelta(days=1)


def remember(house: House) -> None:
    """A week of figures before the first day, each day's as those of the first day itself."""
    told = house.store.scan(QUALITY, [FIRST]).drop("dt").collect()
    # But for what the very first day cannot tell: how many of its ids were known the day before.
    of_ids = told.filter(rule="constant", column="user_id").with_columns(
        rule=pl.lit("unknown"), value=pl.lit(0.05)
    )
    rows = pl.concat([told, of_ids]).sort(QUALITY.sort_by)
    for back in range(1, 8):
        with house.store.stage(QUALITY, FIRST - back * DAY, f"{back:016x}", record={}) as shards:
            shards.write(rows)
        house.store.commit(shards.staged)


def spoil(house: House) -> None:
    """A tenth of the impressions, on one page, half by new users; clicks ten times, purchases twice."""
    for file in delivery(house, "exposure").parent.iterdir():
        late = pl.int_range(pl.len()) % 20 == 0
        new = pl.when(late).then(pl.col("user_id") + 5_000_000).otherwise(pl.col("user_id"))
        rewrite(
            file,
            lambda rows, new=new: rows.with_columns(user_id=new, surface=pl.lit("home")).gather_every(10),  # type: ignore[misc]
        )
    rewrite(delivery(house, "click"), lambda rows: pl.concat([rows] * 10))
    rewrite(delivery(house, "conversion"), lambda rows: pl.concat([rows] * 2))


@pytest.fixture(scope="module")
def blocked(first_day: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    """The second day after the command had run it, and what that said."""
    root = tmp_path_factory.mktemp("blocked")
    shutil.copytree(first_day, root, dirs_exist_ok=True)
    house = open_house(root)
    remember(house)
    close(house, FIRST, validate.run(house, FIRST, ()))
    spoil(house)
    with pytest.MonkeyPatch.context() as patch:
        yield house, command(patch, house, "run", "--date", str(SECOND))[1]


def command(patch: pytest.MonkeyPatch, house: House, *words: str) -> tuple[int, str, str]:
    """Exit status, standard error and output of a command in the house's folder, with no API of Prefect."""
    root = house.logs.parent
    patch.chdir(root)
    patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody listens there
    text = 'scenario = "shop"\nrecipes = ["esmm"]\nthreads = 2\nlogs.shop = "logs"\n'
    (root / "funnelcast.toml").write_text(text, "utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(words))
    return status, err.getvalue(), out.getvalue()


def outcomes(house: House, rule: str, column: str = "") -> dict[str, str]:
    """By level, what became of a figure of the second day."""
    rows = house.store.scan(QUALITY, [SECOND]).filter(rule=rule).collect()
    named = rows.filter((pl.col("column") == column) | (pl.col("table") == f"events/{column}"))
    return dict(named.select("level", "outcome").rows())


def test_F20_F21_a_day_of_a_tenth_of_the_rows_or_of_ten_copies_is_blocked_and_the_scores_before_stay(
    blocked: tuple[House, str],
) -> None:
    house, said = blocked
    line = said.strip().splitlines()[-1]
    assert line.startswith(f"E412 BlockedDay: data of {SECOND}: copies.click: 0.89")
    usual = (
        house.store.scan(QUALITY, [FIRST])
        .filter(table="events/exposure", rule="volume")
        .collect()["value"][0]
    )
    assert (
        f"volume.exposure: {outcome_value(house):,.0f}, expected {usual / 5:,.0f} to {usual * 5:,.0f}" in line
    )
    assert f"the scores of {SECOND} stay" in line
    assert f"funnelcast run --date {SECOND} --override copies.click,volume.exposure --reason TEXT" in line
    assert outcomes(house, "volume", "exposure") == {"block": "block", "warn": "warn"}
    assert outcomes(house, "copies", "click") == {"block": "block", "warn": "warn"}
    assert outcomes(house, "copies", "conversion") == {"block": "ok", "warn": "warn"}
    # The data is committed; no model learned it, and yesterday's scores are there.
    assert SECOND in house.store.days(samples(SCENARIO))
    assert published(house) == {"metrics_daily": [FIRST], "models": [FIRST], "scores": [SECOND]}
    failed = house.store.scan(RUNS, [SECOND]).filter(state="failed").collect()
    assert "E412" in failed["notes"].item()
    with duckdb.connect(str(house.catalog), read_only=True) as catalogue:
        shown = catalogue.sql(
            f"SELECT count(*) FROM quality_daily WHERE dt = '{SECOND}' AND outcome = 'block'"
        )
        assert shown.fetchall() == [(2,)]


def outcome_value(house: House) -> float:
    rows = house.store.scan(QUALITY, [SECOND]).filter(table="events/exposure", rule="volume").collect()
    delivered = pl.read_parquet(delivery(house, "exposure").parent / "*.parquet").height
    value = float(rows["value"][0])
    assert 0.9 * delivered < value <= delivered
    return value


def test_F31_F35_ids_that_are_mostly_new_and_a_feature_that_is_constant_are_warned_of(
    blocked: tuple[House, str],
) -> None:
    house, said = blocked
    assert outcomes(house, "unknown", "user_id") == {"warn": "warn"}
    assert outcomes(house, "constant", "surface") == {"warn": "warn"}
    assert f"{SECOND}: constant.surface: 1, expected at most 0.5 (usual 0 of 8 days) (warn)" in said
    # A user is known from the second impression on; of these the first day's samples tell.
    seen = house.store.scan(samples(SCENARIO), [FIRST]).collect()["user_id"].value_counts()
    known = seen.filter(pl.col("count") >= 2)["user_id"]
    users = house.store.scan(samples(SCENARIO), [SECOND]).collect()["user_id"]
    share = 1 - users.is_in(known.implode()).mean()  # type: ignore[operator]
    assert f"unknown.user_id: {share:.3g}, " in said
    assert "expected at most 0.2" in said
    assert outcomes(house, "constant", "position") == {"warn": "ok"}


def test_F35_a_constant_feature_that_the_scenario_calls_critical_blocks(
    blocked: tuple[House, str], tmp_path: Path
) -> None:
    shutil.copytree(blocked[0].logs.parent, tmp_path, dirs_exist_ok=True)
    critical = Band(rule="constant", level="block", high=0.5, of=("surface",))
    quiet = tuple(band for band in BANDS if band.level == "warn")
    house = replace(open_house(tmp_path), scenario=replace(SCENARIO, bands=(*quiet, critical)))
    with pytest.raises(
        BlockedDay, match=r"^E412 .*constant\.surface: 1, expected at most 0\.5 .*--override constant"
    ):
        validate.run(house, SECOND, ())
    open_again = replace(house, scenario=replace(SCENARIO, bands=quiet))
    validate.run(open_again, SECOND, ())


def test_a_day_after_a_blocked_one_waits_for_it(blocked: tuple[House, str]) -> None:
    house, _ = blocked
    assert pending(house, SECOND, ("esmm",))[0] == "validate"
    with pytest.raises(
        BlockedDay, match=rf"E412 BlockedDay: data of {SECOND}: .*and {SECOND + DAY} would be learned after"
    ):
        quality.refuse_blocked(house, SECOND + DAY)


def test_status_names_the_blocked_day_and_what_blocks_it(
    blocked: tuple[House, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, _ = blocked
    status, _, out = command(monkeypatch, house, "status", "--json")
    days = {day["day"]: day for day in json.loads(out)["days"]}
    assert status == 0
    assert "blocked" not in days[str(FIRST)]
    assert [text.partition(":")[0] for text in days[str(SECOND)]["blocked"]] == [
        "copies.click",
        "volume.exposure",
    ]
    _, _, shown = command(monkeypatch, house, "status")
    assert f"Blocked: {SECOND}, copies.click: 0.89" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--override", "volumes.click", "--reason", "x"], "no rule 'volumes.click'"),
        (["--override", "volume.click"], "a rule and a reason belong together"),
        (["--override", "volume", "--reason", "  "], "a rule and a reason belong together"),
        (["--reason", "because"], "a rule and a reason belong together"),
    ],
)
def test_an_override_without_a_rule_or_a_reason_is_refused_and_not_recorded(
    blocked: tuple[House, str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    house, _ = blocked
    status, err, _ = command(monkeypatch, house, "run", "--date", str(SECOND), *words)
    assert status == 2
    assert "E201 UsageError: override: " in err
    assert said in err
    assert house.store.scan(RUNS).filter(stage="override").collect().is_empty()


def test_F20_an_override_is_recorded_with_who_and_why_and_the_day_completes(
    blocked: tuple[House, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(blocked[0].logs.parent, tmp_path, dirs_exist_ok=True)
    house = open_house(tmp_path)
    run = ["run", "--date", str(SECOND)]
    status, err, _ = command(monkeypatch, house, *run, "--override", "volume", "--reason", "strike")
    assert status == 4  # the copies still block
    assert "volume.exposure" not in err.splitlines()[-1]
    status, err, _ = command(monkeypatch, house, *run, "--override", "copies.click", "--reason", "sent twice")
    assert status == 0, err
    told = house.store.scan(RUNS, [SECOND]).filter(stage="override").sort("started_at").collect()
    assert told["state"].unique().to_list() == ["accepted"]
    assert [json.loads(notes) for notes in told["notes"]] == [
        {"by": getpass.getuser(), "reason": "strike", "rules": ["volume"]},
        {"by": getpass.getuser(), "reason": "sent twice", "rules": ["copies.click"]},
    ]
    assert told["started_at"].null_count() == 0
    assert outcomes(house, "volume", "exposure") == {"block": "overridden", "warn": "warn"}
    assert house.store.days(scores(SCENARIO))[-1] == SECOND + DAY
    assert pending(house, SECOND, ("esmm",)) == ()
    quality.refuse_blocked(house, SECOND + DAY)
    assert command(monkeypatch, house, "check")[0] == 0
