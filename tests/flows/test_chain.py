"""The chain of versions: passes, replay, what optimisers keep over the night; stale days; killed passes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from shop_house import copy_house, open_house
from shop_house import run as run_stages
from shop_logs import write_logs
from test_sampled_lines import offer, recipe
from torch import Tensor

from features.batches import fresh_rows, training_batches
from features.bookkeeping import METRICS, MODELS
from features.errors import UsageError
from features.fingerprint import file_sha256
from features.sampling.base import draws
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows import report
from flows.house import House
from flows.recipes import Recipe
from flows.request import Request
from flows.stages import train, validate
from flows.stages.encode import encoder_of
from flows.stages.publish import refresh_catalogue
from flows.stages.record import StageRecord
from flows.stages.replay import Replay
from flows.stages.version import load, version_of
from models import checkpoint
from models.batch import Batch
from models.carry import Decay, Reset
from models.train import train_one_pass

DAYS = [date(2026, 3, 27) + timedelta(days=n) for n in range(3)]
REPLAY = Replay(days=2, fraction=0.25)
OPTIONS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "plain": {},
        "twice": {"epochs_per_day": 2},
        "replaying": {"replay": REPLAY},
        "forgetful": {"dense_state": Reset(), "embedding_state": Reset()},
    }
)


def made(name: str) -> Recipe:
    return replace(recipe(name), **OPTIONS[name])


@dataclass
class Walk:
    """A warehouse after three days, and what training said."""

    house: House
    learned: dict[tuple[str, date], StageRecord]

    def metrics(self, line: str, day: date) -> pl.DataFrame:
        return self.house.store.scan(METRICS, [day], line=line).collect()

    def state(self, line: str, day: date) -> dict[str, Tensor]:
        version = version_of(self.house, line, day)
        assert version is not None
        return checkpoint.load(version.folder)[0]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    root = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        for name in OPTIONS:
            offer(patch, name, partial(made, name))
        write_logs(root / "logs", DAYS)
        house, learned = open_house(root), {}
        run_stages(house, *DAYS)
        for day in DAYS:
            for record in train.run(house, day, tuple(OPTIONS)):
                if record.table == MODELS.name:
                    learned[record.part, day] = record
        refresh_catalogue(house)
        yield Walk(house, learned)


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
    report.plan(Request(house, ("plain",)), DAYS, as_json=True)
    planned = json.loads(capsys.readouterr().out)["days"]
    assert [day.get("stale_since") for day in planned] == [None, first, first]

    train.run(house, DAYS[0], ("plain",))  # the same inputs: the same version, and all is as it was
    assert told(("plain",)) == dict.fromkeys((first, second, third), (False, None))
    assert {day: version_of(house, "plain", day) for day in DAYS} == before


def test_a_second_run_of_a_day_changes_nothing(walk: Walk) -> None:
    assert all(record.repeated for record in train.run(walk.house, DAYS[2], tuple(OPTIONS)))


def often(house: House, rows: int) -> House:
    """The same house, where training writes down its state after so many rows."""
    return replace(house, settings=house.settings.model_copy(update={"checkpoint_rows": rows}))


def learn(root: Path, rows: int) -> None:
    """What the process does that is killed."""
    train.run(often(open_house(root), rows), DAYS[0], ("esmm",))


def checkpoints(house: House) -> dict[str, str]:
    folder = house.store.root / "checkpoints" / "esmm"
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.rglob("*") if file.is_file()}


def test_F05_a_killed_pass_goes_on_in_the_middle_of_its_day(
    walk: Walk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = copy_house(walk.house, tmp_path / "whole")
    train.run(often(whole, 0), DAYS[0], ("esmm",))

    killed = copy_house(walk.house, tmp_path / "killed")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deltalake", "duckdb", "numpy", "polars", "pyarrow.parquet", "torch"])
    process = context.Process(target=learn, args=(tmp_path / "killed", 200))
    process.start()
    partly = killed.store.root / "_partial" / "esmm"
    while process.is_alive() and not list(partly.glob("[0-9]*/manifest.json")):
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(partly.glob("*/manifest.json")) != []
    assert checkpoints(killed) == {}  # the day has no version yet

    with caplog.at_level(logging.INFO, "funnelcast.resume"):
        train.run(often(killed, 1_000), DAYS[0], ("esmm",))
    assert "goes on after" in caplog.text
    assert checkpoints(killed) == checkpoints(whole) != {}
    assert not partly.exists()
