"""The chain of versions: passes, replay, what optimisers keep over the night; stale days; killed passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from chain_walk import DAYS, FIRST, OPTIONS, REPLAY, Walk, built, made
from shop_house import copy_house, tree
from test_sampled_lines import offer, recipe
from torch import Tensor

from features.batches import fresh_rows, training_batches
from features.bookkeeping import MODELS
from features.errors import MissingStage, UsageError
from features.sampling.base import draws
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows import report
from flows.cli import main
from flows.house import House
from flows.plan_report import plan
from flows.request import Request
from flows.stages import train, validate
from flows.stages.encode import encoder_of
from flows.stages.publish import refresh_catalogue
from flows.stages.replay import Replay
from flows.stages.version import load, version_of
from flows.walk import walked
from models import checkpoint
from models.batch import Batch
from models.carry import Decay
from models.line import Line
from models.train import train_one_pass


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    yield from built(tmp_path_factory.mktemp("options"))


def copy_of(walk: Walk, root: Path) -> House:
    """The same warehouse in another folder."""
    house = copy_house(walk.house, root)
    refresh_catalogue(house)
    return house


def test_the_first_pass_of_two_is_worth_what_a_line_of_one_pass_is(walk: Walk) -> None:
    """Both begin alike, so after its first pass over the first day the one is the other."""
    twice, once = walk.metrics("twice", DAYS[1]), walk.metrics("plain", DAYS[1])
    keys = ["objective", "space", "metric", "value", "rows", "positives"]
    first = twice.filter(slice="pass_1").select(keys)
    assert first.rows() == once.filter(slice="all").select(keys).rows() != []
    assert twice.filter(slice="all").select(keys).rows() != first.rows()
    assert once.filter(pl.col("slice").str.starts_with("pass")).is_empty()


def test_what_each_pass_costs_is_in_the_ledger_and_shown(
    walk: Walk, capsys: pytest.CaptureFixture[str]
) -> None:
    report.outcome(Request(walk.house, ("twice",)), DAYS, as_json=True)
    told = json.loads(capsys.readouterr().out)["passes"]
    shown = {(row["dt"], row["pass"]): row for row in told if row["objective"] == "click"}
    assert sorted(shown) == [(str(day), nth) for day in DAYS[1:] for nth in ("1", "last")]
    assert {row["line"] for row in told} == {"twice"}
    for place, name in (("1", "pass_1"), ("last", "all")):
        of = walk.metrics("twice", DAYS[1]).filter(slice=name, objective="click", space="impressions")
        for metric in ("auc", "log_loss"):
            (value,) = of.filter(metric=metric)["value"]
            assert shown[str(DAYS[1]), place][metric] == value
    report.outcome(Request(walk.house, ("twice",)), DAYS, as_json=False)
    assert "Next-day cost of each pass" in capsys.readouterr().out


def test_two_passes_learn_every_row_twice(walk: Walk) -> None:
    rows = {
        line: walk.house.store.scan(MODELS, [DAYS[0]], line=line).collect()["rows"].item()
        for line in ("plain", "twice")
    }
    assert rows["twice"] == 2 * rows["plain"] > 0


def by_hand(walk: Walk, *, first: bool) -> tuple[dict[str, Tensor], int]:
    """The third day of the replaying line: earlier rows before the fresh ones, or after them."""
    house, chosen, day = walk.house, made("replaying"), DAYS[2]
    parent, now = (version_of(house, "replaying", one) for one in DAYS[1:])
    assert parent is not None
    assert now is not None
    known = house.store.scan(samples(SCENARIO)).drop("dt").collect()
    begin = house.day_start(DAYS[0])  # two days before the third one
    fresh = fresh_rows(known.lazy(), SCENARIO, parent.watermark, house.watermark(day)).collect()
    old = fresh_rows(known.lazy(), SCENARIO, begin, parent.watermark).collect()
    old = old.filter(draws(old, day.toordinal(), "replay") < REPLAY.fraction)
    encoder = encoder_of(house, day, now.id_maps_key)
    line = load(house, chosen, parent)
    line.reset_rows(torch.from_numpy(encoder.rows_given_after(parent.day)), chosen.seed)
    parts = (old.lazy(), fresh.lazy())
    batches = training_batches(
        parts if first else parts[::-1],
        SCENARIO,
        encoder,
        batch_rows=chosen.batch_rows,
        window_rows=chosen.window_rows,
        seed=int(np.random.SeedSequence([chosen.seed, day.toordinal()]).generate_state(1)[0]),
    )
    train_one_pass(line, map(Batch.from_numpy, batches))
    return line.state(), old.height


def test_replayed_rows_are_a_share_of_the_days_before_and_come_first(walk: Walk) -> None:
    expected, rows = by_hand(walk, first=True)
    found = walk.state("replaying", DAYS[2])
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    after, _ = by_hand(walk, first=False)
    assert not torch.equal(found["embedding.weight_RD"], after["embedding.weight_RD"])
    learned = {
        line: walk.house.store.scan(MODELS, [DAYS[2]], line=line).collect()["rows"].item()
        for line in ("plain", "replaying")
    }
    assert learned["replaying"] == learned["plain"] + rows
    told = walk.learned["replaying", DAYS[2]].notes["replayed"]
    assert told == {"rows": rows, "since": walk.house.day_start(DAYS[0]).isoformat()}
    assert "replayed" not in walk.learned["replaying", DAYS[0]].notes
    earlier = walk.learned["plain", DAYS[0]].notes["trained"]["click"]  # type: ignore[index]
    assert 0.5 < rows / (2 * earlier * REPLAY.fraction) < 1.5


def test_the_key_of_a_day_covers_the_days_that_are_replayed(walk: Walk) -> None:
    short, long = (
        train.plan_model(walk.house, DAYS[2], replace(made("plain"), replay=replay), "maps").inputs
        for replay in (None, Replay(days=30))
    )
    assert {f"samples {day}" for day in DAYS} <= set(long)
    assert set(short) <= set(long)
    assert short["recipe"] != long["recipe"]


def test_a_line_that_forgets_begins_each_day_with_first_steps(walk: Walk) -> None:
    """Adam's count of steps is that of the day alone."""
    states = {line: walk.state(line, DAYS[1]) for line in ("plain", "forgetful")}
    steps = [n for n in states["plain"] if n.startswith("dense_optimizer") and n.endswith(".step")]
    assert steps != []
    first = walk.state("plain", DAYS[0])
    for step in steps:
        assert states["plain"][step] == first[step] + states["forgetful"][step]
        assert states["forgetful"][step] > 0


def test_at_their_defaults_the_options_leave_the_settings_of_a_recipe_alone() -> None:
    told = [replace(recipe("plain"), **options).settings() for options in OPTIONS.values()]
    assert not {"replay", "epochs_per_day", "dense_state", "embedding_state"} & set(told[0])
    assert told[1]["epochs_per_day"] == 2
    assert told[2]["replay"] == {"call": "flows.stages.replay.Replay", "days": 2, "fraction": 0.25}
    assert replace(recipe("plain"), dense_state=Decay(0.9)).settings()["dense_state"] == {
        "call": "models.carry.Decay",
        "gamma": 0.9,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Replay(days=0),
        lambda: Replay(fraction=0.0),
        lambda: Replay(fraction=1.5),
        lambda: replace(recipe("plain"), epochs_per_day=0),
    ],
)
def test_options_that_ask_for_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_F17_when_a_day_is_trained_anew_all_its_descendants_are_stale(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(lines: tuple[str, ...]) -> dict[str, tuple[bool, str | None]]:
        """By day: whether training is to do, and the ancestor because of which it is stale."""
        report.status(Request(house, lines), as_json=True)
        days = json.loads(capsys.readouterr().out)["days"]
        return {day["day"]: ("train" in day["pending"], day.get("stale_since")) for day in days}

    first, second, third = map(str, DAYS)
    house = copy_of(walk, tmp_path / "copy")
    for day in DAYS:
        validate.run(house, day, ())
    assert told(("plain",)) == dict.fromkeys((first, second, third), (False, None))
    before = {day: version_of(house, "plain", day) for day in DAYS}
    with monkeypatch.context() as patch:
        offer(patch, "plain", lambda: replace(made("plain"), seed=2))
        train.run(house, DAYS[0], ("plain",))
    assert version_of(house, "plain", DAYS[0]) != before[DAYS[0]]
    # What stands there now is of another recipe; the second day has lost its parent, the third has not yet.
    assert told(("plain",)) == {first: (True, None), second: (True, first), third: (False, first)}
    assert told(("twice",)) == dict.fromkeys((first, second, third), (False, None))
    report.status(Request(house, ("plain", "twice")), as_json=False)
    shown = capsys.readouterr().out
    assert f"Stale: models that descend from {first}" in shown
    assert f"funnelcast backfill {first} {third}" in shown
    plan(Request(house, ("plain",)), DAYS, as_json=True)
    planned = json.loads(capsys.readouterr().out)["days"]
    assert [day.get("stale_since") for day in planned] == [None, first, first]

    train.run(house, DAYS[0], ("plain",))  # the same inputs: the same version, and all is as it was
    assert told(("plain",)) == dict.fromkeys((first, second, third), (False, None))
    assert {day: version_of(house, "plain", day) for day in DAYS} == before


def test_a_second_run_of_a_day_changes_nothing(walk: Walk) -> None:
    assert all(record.repeated for record in train.run(walk.house, DAYS[2], tuple(OPTIONS)))


def begun_by_hand(walk: Walk) -> Line:
    """The first day of the line that takes over the table: its own network, the other line's vectors."""
    house, chosen, day = walk.house, made("begun"), DAYS[1]
    now = version_of(house, "begun", day)
    assert now is not None
    line, given = load(house, chosen, None), walk.state("plain", DAYS[0])
    table = line.embedding.weight_RD
    assert not torch.equal(table, given["embedding.weight_RD"])
    table.copy_(given["embedding.weight_RD"])
    for name, tensor in line.embedding_optimizer.state().items():
        tensor.copy_(given[f"embedding_optimizer.{name}"])
    encoder = encoder_of(house, day, now.id_maps_key)
    line.reset_rows(torch.from_numpy(encoder.rows_given_after(DAYS[0])), chosen.seed)
    known = house.store.scan(samples(SCENARIO)).drop("dt")
    fresh = fresh_rows(known, SCENARIO, house.day_start(day), house.watermark(day))
    batches = training_batches(
        fresh,
        SCENARIO,
        encoder,
        batch_rows=chosen.batch_rows,
        window_rows=chosen.window_rows,
        seed=int(np.random.SeedSequence([chosen.seed, day.toordinal()]).generate_state(1)[0]),
    )
    train_one_pass(line, map(Batch.from_numpy, batches))
    return line


def test_a_line_begins_with_what_its_map_names_of_another_and_with_nothing_else(walk: Walk) -> None:
    expected, found = begun_by_hand(walk).state(), walk.state("begun", DAYS[1])
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    giver, own = version_of(walk.house, "plain", DAYS[0]), version_of(walk.house, "begun", DAYS[1])
    assert giver is not None
    assert own is not None
    told = {"line": "plain", "version": giver.version}
    assert walk.learned["begun", DAYS[1]].notes["handover"] == told
    assert checkpoint.load(own.folder)[1]["handover"] == told
    assert "handover" not in walk.learned["begun", DAYS[2]].notes
    row = walk.house.store.scan(MODELS, [DAYS[1]], line="begun").collect()
    assert json.loads(row["inputs"].item())["handover"] == giver.version
    assert row["parent_version"].item() is None
    with pytest.raises(MissingStage, match=r"line plain before .*has no version.*begun"):
        train.run(walk.house, DAYS[0], ("begun",))


@pytest.mark.parametrize("name", ["plain", "replaying", "begun", "early"])
def test_a_walk_through_the_days_scores_what_the_stages_scored(walk: Walk, name: str) -> None:
    days = [day for day in DAYS if day >= FIRST.get(name, day)]
    found = {(s.day, s.objective, s.metric): s.value for s in walked(walk.house, made(name), days)}
    told = {
        (day, objective, metric): value
        for day in days[1:]
        for objective, metric, value in walk.metrics(name, day)
        .filter(pl.col("metric").is_in(["auc", "log_loss", "pcoc"]), slice="all", space="impressions")
        .select("objective", "metric", "value")
        .rows()
    }
    assert found == told != {}


def test_a_sweep_names_the_rate_with_the_least_loss_and_writes_nothing(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, root = tmp_path / "funnelcast.toml", walk.house.settings.warehouse.parent
    config.write_text(
        f'scenario = "shop"\nwarehouse = "{root / "warehouse"}"\n[logs]\nshop = "{root / "logs"}"\n'
    )
    before = tree(walk.house)
    words = ["sweep", "plain", "--rate", "1", "--rate", "0.01", "--rate", "1e12", "--to", str(DAYS[1])]
    assert main([*words, "--config", str(config), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert "1e+12 x: " in err
    losses: dict[float, list[float]] = {}
    for row in told["days"]:
        assert row["day"] == str(DAYS[1])
        if row["metric"] == "log_loss" and row["value"] is not None:
            losses.setdefault(row["rate"], []).append(row["value"])
    assert set(losses) >= {1.0, 0.01}
    assert told["best"] == min(losses, key=lambda rate: sum(losses[rate])) == 1.0
    assert told["dense_rate"] == pytest.approx(made("plain").dense_rate)
    assert tree(walk.house) == before
    assert main([*words[:2], "--rate", "0", "--config", str(config)]) == 2
