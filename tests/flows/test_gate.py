"""The gate over days of the shop: which version stands, is trained from and scored with; what is kept out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from fault_house import rewrite
from shop_house import copy_house, drop, open_house
from shop_house import run as run_stages
from shop_logs import write_logs
from sklearn.metrics import log_loss, roc_auc_score
from test_sampled_lines import offer, recipe
from torch import Tensor

from features.batches import fresh_rows, training_batches
from features.bookkeeping import METRICS, MODELS
from features.errors import GateBlocked, MissingStage, UsageError
from features.promotion import GATE, PROMOTIONS
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from flows import cli, recipes, report
from flows.by_hand import promote, rollback
from flows.diff import difference
from flows.gate_report import judged as told_of
from flows.gate_report import worth_telling
from flows.house import House
from flows.limits import Gate, Limit, Limits
from flows.query import ask
from flows.reasons import reason
from flows.recipes import Recipe
from flows.request import Request
from flows.stages import calibrate, gate, publish, score, train
from flows.stages.encode import encoder_of
from flows.stages.record import StageRecord
from flows.stages.standing import scoring_version, standing_after
from flows.stages.version import Version, load, parent_of, version_of
from models import checkpoint
from models.batch import Batch
from models.score import score_arrays
from models.train import train_one_pass

DAYS = [date(2026, 3, 26) + timedelta(days=n) for n in range(4)]
FIRST, SECOND, THIRD, FOURTH = DAYS
#: Nobody passes that has a champion: an AUC would have to rise by more than 1.
CLOSED = Gate(limits=Limits(auc_drop=Limit(fail=-1.0)))
GATES = {"open": Gate(), "closed": CLOSED}
LINES = tuple(GATES)


def made(name: str, judged: Gate | None = None) -> Recipe:
    return replace(recipe(name), gate=judged or GATES[name])


def judge(house: House, day: date, lines: tuple[str, ...] = LINES) -> dict[str, StageRecord]:
    """A day up to its judgement; what was said of every line."""
    run_stages(house, day)
    train.run(house, day, lines)
    told = {record.part: record for record in gate.run(house, day, lines)}
    calibrate.run(house, day, lines)
    return told


def version(house: House, line: str, day: date) -> Version:
    found = version_of(house, line, day)
    assert found is not None
    return found


def checks(house: House, day: date, line: str) -> pl.DataFrame:
    return house.store.scan(GATE, [day], line=line).collect()


def decided(house: House, line: str) -> list[tuple[date, str]]:
    """Day and decision, oldest first."""
    told = house.store.scan(PROMOTIONS).filter(pl.col("line") == line).sort("dt", "nth").collect()
    return told.select("dt", "decision").rows()


@pytest.fixture(scope="module")
def offered() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name in GATES:
            offer(patch, name, partial(made, name))
        yield patch


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, offered: pytest.MonkeyPatch) -> House:
    """Three days, each judged; the third is scored and published."""
    root = tmp_path_factory.mktemp("gate")
    write_logs(root / "logs", DAYS)
    house = open_house(root)
    for day in (FIRST, SECOND, THIRD):
        judge(house, day)
    for stage in (calibrate, score, publish):
        stage.run(house, THIRD, LINES)
    return house


def test_the_first_version_is_promoted_and_told_that_it_had_no_baseline(walk: House) -> None:
    told = walk.store.scan(PROMOTIONS, [FIRST]).collect()
    assert set(told["line"]) == set(LINES)
    assert all("there was no baseline" in reason for reason in told["reason"])
    assert set(told["decision"]) == {"promoted"}
    asked = checks(walk, FIRST, "closed")
    assert set(asked["check"]) == {"scores", "evidence", "auc", "calibration"}
    assert asked["champion_version"].null_count() == asked.height


def test_a_version_that_fails_is_kept_and_the_champion_stands(walk: House) -> None:
    assert decided(walk, "open") == [(day, "promoted") for day in DAYS[:3]]
    assert decided(walk, "closed") == [(FIRST, "promoted"), (SECOND, "rejected"), (THIRD, "rejected")]
    assert walk.store.days(MODELS, line="closed") == [FIRST, SECOND, THIRD]
    assert all(version(walk, "closed", day).folder.is_dir() for day in DAYS[:3])
    assert standing_after(walk, "closed", THIRD) == version(walk, "closed", FIRST)
    assert standing_after(walk, "open", THIRD) == version(walk, "open", THIRD)
    failed = checks(walk, THIRD, "closed").filter(outcome="failed")
    assert set(failed["check"]) == {"auc_drop"}
    assert set(failed["champion_version"]) == {version(walk, "closed", FIRST).version}


def test_the_next_day_is_scored_with_the_version_that_stands(walk: House) -> None:
    rows = walk.store.scan(scores(SCENARIO), [FOURTH]).select("line", "model_version").unique().collect()
    assert dict(rows.rows()) == {
        "open": version(walk, "open", THIRD).version,
        "closed": version(walk, "closed", FIRST).version,
    }


def test_a_second_run_judges_scores_and_publishes_nothing_anew(walk: House) -> None:
    before = [walk.store.snapshot(table) for table in (GATE, PROMOTIONS, scores(SCENARIO))]
    for stage in (gate, score, publish):
        assert not stage.pending(walk, THIRD, LINES)
        assert all(record.repeated for record in stage.run(walk, THIRD, LINES))
    assert [walk.store.snapshot(table) for table in (GATE, PROMOTIONS, scores(SCENARIO))] == before


def state(found: Version) -> dict[str, Tensor]:
    return checkpoint.load(found.folder)[0]


def test_after_versions_that_were_kept_out_the_champion_learns_their_rows_too(
    walk: House,
) -> None:
    champion, now = version(walk, "closed", FIRST), version(walk, "closed", THIRD)
    (row,) = walk.store.scan(MODELS, [THIRD], line="closed").collect().rows(named=True)
    assert (row["parent_version"], row["trained_since"]) == (champion.version, champion.watermark)
    rows = fresh_rows(
        walk.store.scan(samples(SCENARIO)).drop("dt"), SCENARIO, champion.watermark, walk.watermark(THIRD)
    )
    encoder = encoder_of(walk, THIRD, now.id_maps_key)
    chosen = made("closed")
    line = load(walk, chosen, champion)
    line.reset_rows(torch.from_numpy(encoder.rows_given_after(FIRST)), chosen.seed)
    batches = training_batches(
        rows,
        SCENARIO,
        encoder,
        batch_rows=chosen.batch_rows,
        window_rows=chosen.window_rows,
        seed=int(np.random.SeedSequence([chosen.seed, THIRD.toordinal()]).generate_state(1)[0]),
    )
    train_one_pass(line, map(Batch.from_numpy, batches))
    expected, found = line.state(), state(now)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    days = {at.date() for at in rows.select("exposed_at").collect()["exposed_at"]}
    assert {SECOND, THIRD} <= days


def test_limits_are_no_part_of_a_model(walk: House) -> None:
    """Without a version that was kept out, the chain is what it would be without a gate."""
    one, other = (version(walk, line, FIRST) for line in LINES)
    assert one.version != other.version  # their names differ
    assert made("open").settings() == made("open", CLOSED).settings()
    before = version(walk, "open", SECOND)
    (row,) = walk.store.scan(MODELS, [THIRD], line="open").collect().rows(named=True)
    assert (row["parent_version"], row["trained_since"]) == (before.version, before.watermark)


def test_the_champions_numbers_are_those_that_it_was_evaluated_with(walk: House) -> None:
    """On fresh rows: the stage train measured them by another way, before the new version learned."""
    names = {"auc": "auc", "calibration": "pcoc", "log_loss_rise": "log_loss"}
    told = checks(walk, THIRD, "open").filter(over="fresh", slice="all")
    told = told.filter(pl.col("check").is_in(list(names)))
    metrics = walk.store.scan(METRICS, [THIRD], line="open").filter(slice="all").collect()
    values = {(m["objective"], m["space"], m["metric"]): m["value"] for m in metrics.rows(named=True)}
    found = {(c["objective"], c["space"], names[c["check"]]): c["champion_value"] for c in told.to_dicts()}
    assert len(found) == 8  # three of two objectives per impression, two of conversions given a click
    assert found == {key: values[key] for key in found}


@pytest.mark.parametrize("over", ["fresh", "earlier"])
def test_the_versions_numbers_are_those_of_another_library_on_rows_found_by_hand(
    walk: House, over: str
) -> None:
    now, before = version(walk, "open", THIRD), version(walk, "open", SECOND)
    known = walk.store.scan(samples(SCENARIO)).collect()
    begins = {"fresh": before.watermark, "earlier": walk.day_start(SECOND)}
    begin, end = begins[over], (now if over == "fresh" else before).watermark
    closes = pl.col("exposed_at") + timedelta(hours=1) + SCENARIO.lateness
    rows = known.filter((closes > begin) & (closes <= end))
    line, encoder = load(walk, made("open"), now), encoder_of(walk, THIRD, now.id_maps_key)
    p = score_arrays(line, encoder.encode(rows))["pctr"].astype(float)
    y = rows["y_click"].to_numpy()
    told = checks(walk, THIRD, "open").filter(over=over, slice="all", objective="click")
    value = {c["check"]: c["value"] for c in told.rows(named=True)}
    assert set(told.filter(check="auc_drop")["rows"]) == {len(y)}
    assert value["auc_drop"] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert value["log_loss_rise"] == pytest.approx(log_loss(y, p), rel=1e-9)


def copy_of(walk: House, root: Path) -> House:
    return copy_house(walk, root)


def test_other_limits_judge_anew_and_train_nothing(
    walk: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = copy_of(walk, tmp_path / "copy")
    offer(monkeypatch, "closed", partial(made, "closed", Gate()))
    assert not train.pending(house, SECOND, ("closed",))
    assert gate.pending(house, SECOND, ("closed",))
    assert reason(house, SECOND, (gate.STAGE,), ("closed",)) == "gate: gate of closed is from another limits"
    gate.run(house, SECOND, ("closed",))
    assert decided(house, "closed")[1:3] == [(SECOND, "rejected"), (SECOND, "promoted")]
    assert standing_after(house, "closed", SECOND) == version(house, "closed", SECOND)
    # The third day descends from the first one, and should from the second.
    assert train.pending(house, THIRD, ("closed",))


def test_limits_of_an_objective_that_there_is_not_are_refused(
    offered: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, "open", partial(made, "open", Gate(of={"clik": Limits()})))
    with pytest.raises(UsageError, match="limits of clik, objectives are click, conversion"):
        recipes.get("shop", "open")


def test_after_a_rollback_the_next_day_is_scored_with_the_version_that_was_restored(
    walk: House, tmp_path: Path
) -> None:
    house = copy_of(walk, tmp_path / "copy")
    rollback(house, "open", to=None, reason="worse", by="ada")
    assert not train.pending(house, THIRD, ("open",))  # what is finished stays
    assert not gate.pending(house, THIRD, ("open",))
    assert publish.pending(house, THIRD, ("open",))
    why = reason(house, THIRD, (score.STAGE, publish.STAGE), ("open",))
    assert why.startswith("score: scores of open is from another model")
    (scored,) = (record for record in score.run(house, THIRD, ("open",)) if record.part == "open")
    publish.run(house, THIRD, ("open",))
    assert scored.notes == {"model_of": str(SECOND)}
    rows = house.store.scan(scores(SCENARIO), [FOURTH], line="open").select("model_version").unique()
    assert rows.collect().item() == version(house, "open", SECOND).version
    # That is what a version of that day would have scored: nothing of the later one is left in it.
    before = walk.store.scan(scores(SCENARIO), [FOURTH], line="open").select("pctr").collect()
    after = house.store.scan(scores(SCENARIO), [FOURTH], line="open").select("pctr").collect()
    assert before.height == after.height
    assert not before.equals(after)


def test_after_a_promotion_by_hand_of_an_older_day_the_later_ones_are_to_be_trained_anew(
    walk: House, tmp_path: Path
) -> None:
    house = copy_of(walk, tmp_path / "copy")
    promote(house, "closed", day=SECOND, version=None, reason="all well", by="ada")
    assert not gate.pending(house, SECOND, ("closed",))
    assert not train.pending(house, SECOND, ("closed",))
    assert train.pending(house, THIRD, ("closed",))
    assert parent_of(house, "closed", THIRD) == version(house, "closed", SECOND)


def test_a_run_that_was_killed_before_its_decision_was_entered_enters_it(walk: House, tmp_path: Path) -> None:
    house = copy_of(walk, tmp_path / "copy")
    drop(house, PROMOTIONS, THIRD)
    assert gate.pending(house, THIRD, LINES)
    with pytest.raises(MissingStage, match="not judged"):
        scoring_version(house, "open", THIRD)
    # What was not judged is nobody's parent.
    assert parent_of(house, "open", FOURTH) == version(house, "open", SECOND)
    assert all(record.repeated for record in gate.run(house, THIRD, LINES))
    assert decided(house, "closed")[-1] == (THIRD, "rejected")
    assert parent_of(house, "open", FOURTH) == version(house, "open", THIRD)


def test_in_a_warehouse_that_was_never_judged_the_newest_version_stands(walk: House, tmp_path: Path) -> None:
    house = copy_of(walk, tmp_path / "copy")
    for table in (GATE, PROMOTIONS):
        for day in DAYS[:3]:
            drop(house, table, day)
    for line in LINES:
        assert parent_of(house, line, FOURTH) == version(house, line, THIRD)
        assert scoring_version(house, line, THIRD) == version(house, line, THIRD)


def inverted(house: House, day: date) -> None:
    """Deliver as clicks of a day what was shown and not clicked, and nothing else."""
    shown = pl.concat(pl.read_parquet(file) for file in house.logs.glob(f"exposure/dt={day}/*.parquet"))

    def others(clicks: pl.DataFrame) -> pl.DataFrame:
        rest = shown.drop_nulls().unique("exposure_id").join(clicks, on=["user_id", "sku"], how="anti")
        rest = rest.filter(pl.col("ts_us").is_between(1.7e15, 1.9e15))
        minute_later = (pl.col("ts_us") // 1_000_000 + 60).alias("ts_s")
        named = rest.with_columns(minute_later, click_id=pl.format("x-{}", "exposure_id"))
        return named.select(clicks.columns).cast(dict(clicks.schema))

    rewrite(house.logs / "click" / f"dt={day}" / "part-0.parquet", others)


def test_F54_a_day_of_wrong_labels_is_kept_out_and_with_refuse_nothing_is_published(
    walk: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = copy_of(walk, tmp_path / "copy")
    inverted(house, FOURTH)
    offer(monkeypatch, "open", partial(made, "open", Gate(refuse=True)))
    before = house.store.snapshot(scores(SCENARIO))
    told = r"^E301 .*gate of 2026-03-29: open rejected \(.* of click \(.*, earlier rows\)"
    with pytest.raises(GateBlocked, match=told) as blocked:
        judge(house, FOURTH, ("open",))
    assert blocked.value.exit_code == 3
    asked = ask(house, f"SELECT DISTINCT over FROM gate WHERE outcome = 'failed' AND dt = DATE '{FOURTH}'")
    assert asked.rows == [("earlier",)]  # though the run did not come to its end
    # The rows that it has just learned do not tell: it is better there than who did not learn them.
    told = checks(house, FOURTH, "open").filter(objective="click", slice="all")
    assert set(told.filter(outcome="failed")["over"]) == {"earlier"}
    assert told.filter(over="fresh", check="auc_drop")["measured"].item() < 0
    with pytest.raises(GateBlocked):
        gate.run(house, FOURTH, ("open",))
    assert house.store.snapshot(scores(SCENARIO)) == before
    assert decided(house, "open")[-1] == (FOURTH, "rejected")
    (line,) = worth_telling(told_of(house, [FOURTH], ["open"]))
    assert line.endswith(f"; {THIRD} stands, nothing is published for {FOURTH + timedelta(days=1)}")

    offer(monkeypatch, "open", partial(made, "open"))  # without refuse: the champion scores
    assert not gate.pending(house, FOURTH, ("open",))
    gate.run(house, FOURTH, ("open",))
    assert scoring_version(house, "open", FOURTH) == version(house, "open", THIRD)


def test_F46_a_day_without_clicks_is_insufficient_and_the_champion_stays(walk: House, tmp_path: Path) -> None:
    house = copy_of(walk, tmp_path / "copy")
    rewrite(house.logs / "click" / f"dt={FOURTH}" / "part-0.parquet", pl.DataFrame.clear)
    record = judge(house, FOURTH, ("open",))["open"]
    assert record.notes["decision"] == "insufficient"
    clicks = checks(house, FOURTH, "open").filter(check="evidence").row(0, named=True)
    labels = house.store.scan(samples(SCENARIO), [FOURTH]).filter(pl.col("final_click")).collect()
    assert labels["y_click"].sum() == 0 < labels.height
    assert clicks["positives"] < 30  # of the last hour of the day before
    assert clicks["outcome"] == "undecided"
    assert decided(house, "open")[-1] == (FOURTH, "insufficient")
    assert scoring_version(house, "open", FOURTH) == version(house, "open", THIRD)


def test_a_first_version_that_is_kept_out_ends_the_run_because_nothing_else_stands(
    walk: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = copy_of(walk, tmp_path / "copy")
    offer(monkeypatch, "new", lambda: replace(recipe("new"), gate=Gate(limits=Limits(auc=Limit(fail=0.999)))))
    train.run(house, THIRD, ("new",))
    with pytest.raises(GateBlocked, match=r"new rejected .*no version stood before it"):
        gate.run(house, THIRD, ("new",))
    with pytest.raises(MissingStage, match="no version stood before"):
        scoring_version(house, "new", THIRD)
    assert parent_of(house, "new", FOURTH) is None


def test_two_versions_are_told_apart_by_lineage_settings_numbers_and_weights(walk: House) -> None:
    a, b = version(walk, "open", SECOND), version(walk, "open", THIRD)
    found = difference(walk, a.version[:12], f"open@{THIRD}")
    assert found.kinship == "A is the parent of B"
    assert (found.a["model_version"], found.b["model_version"]) == (a.version, b.version)
    assert found.b["trained_since"] == a.watermark
    assert found.recipe == {}
    assert {"parent", "id_maps", f"samples {THIRD}"} <= set(found.inputs)
    assert {"code", "recipe", "torch"}.isdisjoint(found.inputs)
    told = checks(walk, THIRD, "open").filter(slice="all", check="auc_drop")
    pairs = {
        (r["over"], r["objective"], r["space"]): (r["champion_value"], r["value"]) for r in told.to_dicts()
    }
    same = [n for n in found.numbers if n.metric == "auc" and not n.on.startswith("next day")]
    assert {(n.on, n.objective, n.space): (n.a, n.b) for n in same} == pairs
    (next_day,) = [
        n for n in found.numbers if n.on == f"next day ({THIRD} and none)" and n.metric == "auc"
        and (n.objective, n.space) == ("click", "impressions")
    ]  # fmt: skip
    # What A was worth on the third day is what it was worth on the fresh rows of that day.
    assert next_day.a == pairs["fresh", "click", "impressions"][0]
    assert next_day.b is None
    one, other = state(a), state(b)
    weights = {w.name: w for w in found.weights}
    scoring = {
        n for n in one if not n.startswith(("dense_optimizer", "embedding_optimizer")) and n != "steps"
    }
    assert set(weights) == scoring | {"all"}
    for name in scoring:
        x, y = (np.asarray(t[name], dtype=np.float64).ravel() for t in (one, other))
        assert weights[name].relative == pytest.approx(np.sqrt(((y - x) ** 2).sum() / (x**2).sum()))
    every = [
        np.concatenate([np.asarray(t[n], np.float64).ravel() for n in sorted(scoring)]) for t in (one, other)
    ]
    gap, size = np.linalg.norm(every[1] - every[0]), np.linalg.norm(every[0])
    assert weights["all"].relative == pytest.approx(gap / size)


def test_kinship_is_by_parents_and_settings_that_differ_are_told_by_path(walk: House) -> None:
    def kin(a: str, b: str) -> str:
        return difference(walk, a, b).kinship

    assert kin(f"open@{THIRD}", f"open@{FIRST}") == "B is 2 versions before A"
    assert kin(f"closed@{FIRST}", f"closed@{THIRD}") == "A is the parent of B"  # the second day was kept out
    first = version(walk, "closed", FIRST).version
    branched = f"A and B branch from {first}, 1 and 1 versions back"
    assert kin(f"closed@{SECOND}", f"closed@{THIRD}") == branched
    assert kin(f"open@{FIRST}", f"open@{FIRST}") == "A and B are the same version"
    assert kin(f"open@{FIRST}", f"closed@{FIRST}") == "A and B have no common ancestor that is known"
    assert difference(walk, f"open@{FIRST}", f"closed@{FIRST}").recipe == {"name": ("open", "closed")}
    for wrong in ("zz", "", "open@2026-01-01", "nobody@2026-03-26"):
        with pytest.raises(UsageError, match="no version is called so"):
            difference(walk, wrong, f"open@{FIRST}")


def test_diff_prints_a_table_for_people_and_everything_for_machines(
    walk: House, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(walk.settings.warehouse))
    pair = (f"open@{SECOND}", f"open@{THIRD}", "--scenario", "shop")
    assert cli.main(["diff", *pair]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("A is the parent of B.")
    assert "embedding.weight_RD" in shown
    assert cli.main(["diff", *pair, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights"][-1]["name"] == "all"
    assert cli.main(["diff", "zz", "yy"]) == 2


def test_run_and_status_say_who_was_kept_out_and_what_scores_instead(
    walk: House, capsys: pytest.CaptureFixture[str]
) -> None:
    publish.refresh_catalogue(walk)
    report.outcome(Request(walk, LINES), [FIRST, THIRD], as_json=False)
    shown = capsys.readouterr().out
    stands = version(walk, "closed", FIRST).version
    assert f"Gate: open of {FIRST}: promoted, there was no baseline" in shown
    assert f"Gate: closed of {THIRD}: rejected, auc_drop of click" in shown
    assert f"{FOURTH} is scored with {stands[:8]} of {FIRST}" in shown
    assert f"Gate: open of {THIRD}" not in shown
    report.status(Request(walk, LINES), as_json=True)
    told = {one["line"]: one for one in json.loads(capsys.readouterr().out)["gate"]}
    assert told["closed"]["stands"] == {"version": stands, "day": str(FIRST)}
    assert told["open"]["decision"] == "promoted"
