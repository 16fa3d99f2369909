"""Any day of the simulated funnel is the same however it is made, and every row of its logs is explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.errors import UsageError
from features.fingerprint import file_sha256
from features.simulation import Noise, Simulation, SimulationSettings
from features.simulation import simulation as module
from features.simulation.block import block, blocks

CLEAN = Noise(duplicates=0, late=0, orphans=0, broken=0, replayed=0)
SMALL = SimulationSettings(impressions=3_000, users=300, items=80, seed=5)
#: Every kind of dirt and many conversions; two blocks a day with ``blocks_of_100``.
DIRTY = replace(
    SMALL,
    impressions=180,
    ctr=0.5,
    cvr=0.6,
    horizon_days=1,
    noise=Noise(duplicates=0.2, late=0.5, orphans=0.2, broken=0.1, replayed=0.1),
)
DAYS = [DIRTY.start + timedelta(days=n) for n in range(DIRTY.reach_days + 1)]
KEYS = {"exposure": "exposure_id", "click": "event_id", "conversion": "event_id"}


def tree(folder: Path) -> dict[str, str]:
    files = (
        file for file in folder.rglob("*.parquet") if not file.relative_to(folder).parts[0].startswith(".")
    )
    return {str(file.relative_to(folder)): file_sha256(file) for file in files}


@pytest.fixture
def blocks_of_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.simulation.shown.BLOCK", 100)


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days one after the other, until all that the first one brought forth is delivered."""
    folder = tmp_path_factory.mktemp("row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.simulation.shown.BLOCK", 100)
        assert Simulation(DIRTY).write(folder, DAYS) == tuple(DAYS)
    return folder


@pytest.mark.usefixtures("blocks_of_100")
def test_a_day_alone_or_in_any_order_has_the_same_bytes(row: Path, tmp_path: Path) -> None:
    whole, last = tree(row), DAYS[3]
    assert Simulation(DIRTY).write(tmp_path, [last]) == (last,)
    about = [
        f"{source}/dt={last + timedelta(days=source == 'candidate')}/"
        for source in (*KEYS, "item", "truth", "candidate")
    ]
    assert tree(tmp_path) == {
        file: sha for file, sha in whole.items() if any(file.startswith(one) for one in about)
    }
    Simulation(DIRTY).write(tmp_path, [DAYS[1]])
    assert Simulation(DIRTY).write(tmp_path, DAYS[:2]) == (DAYS[0],)
    for file, sha in tree(tmp_path).items():
        assert whole[file] == sha


@pytest.mark.usefixtures("blocks_of_100")
def test_a_day_in_memory_has_the_rows_of_the_one_that_was_written_block_by_block(row: Path) -> None:
    memory = Simulation(DIRTY).day(DAYS[3])
    for source, rows in {**memory.logs, "truth": memory.truth}.items():
        about = DAYS[3] + timedelta(days=source == "candidate")
        files = pl.read_parquet(row / source / f"dt={about}" / "*.parquet")
        assert files.sort(pl.all()).equals(rows.sort(pl.all()))


@pytest.mark.usefixtures("blocks_of_100")
def test_blocks_are_the_same_whoever_makes_them_and_another_seed_makes_others() -> None:
    made = list(blocks(DIRTY, DAYS[1]))
    assert [one.number for one in made] == [0, 1]
    asked = [(day, n) for n in (1, 0) for day in (DAYS[2], DAYS[1])]
    with ThreadPoolExecutor(4) as four:
        again = {key: four.submit(block, DIRTY, *key) for key in asked}
    for one in made:
        other = again[DAYS[1], one.number].result()
        assert one.truth.equals(other.truth)
        assert all(rows.equals(other.logs[source]) for source, rows in one.logs.items())
    even = replace(
        DIRTY, spread=0, drift=0, position_bias=0, weekday=0, promotion=0
    )  # one probability for all
    first, second, next_day = (
        block(even, day, n).truth["clicked"].head(80) for day, n in ((DAYS[0], 0), (DAYS[0], 1), (DAYS[1], 0))
    )
    assert 20 < (first != second).sum() < 60  # no block throws another one's dice
    assert 20 < (first != next_day).sum() < 60
    foreign = block(replace(DIRTY, seed=6), DAYS[1], 0)
    assert not foreign.truth.equals(made[0].truth)
    assert not any(rows.equals(made[0].logs[source]) for source, rows in foreign.logs.items())


def test_the_truth_has_every_impression_once(row: Path) -> None:
    truth = pl.read_parquet(row / "truth/**/*.parquet")
    assert truth["impression_id"].n_unique() == truth.height == DIRTY.impressions * len(DAYS)
    rows = pl.read_parquet(row / "exposure/**/*.parquet")
    due = set(rows.filter(~pl.col("exposure_id").str.starts_with("x"))["exposure_id"])
    missing = set(truth["impression_id"]) - due
    assert due <= set(truth["impression_id"])
    # what is missing was shown shortly before the last midnight and comes a day after it
    assert 0 < len(missing) < 0.05 * DIRTY.impressions
    assert all(one.startswith(f"{DAYS[-1]:%Y%m%d}") for one in missing)


@pytest.mark.usefixtures("blocks_of_100")
def test_every_row_of_the_logs_is_explained_and_every_true_one_comes_once_in_time(row: Path) -> None:
    clean = list(blocks(replace(DIRTY, noise=CLEAN), DAYS[0]))
    for source, key in KEYS.items():
        told = pl.concat(
            pl.read_parquet(row / source / f"dt={day}" / "*.parquet").with_columns(came=n)
            for n, day in enumerate(DAYS)
        ).filter(pl.col("exposure_id").str.contains("20260105"))
        true = {one[key]: one for part in clean for one in part.logs[source].to_dicts()}
        assert true
        kinds: dict[str, Counter[str]] = {}
        for one in told.to_dicts():
            name, came = one[key], one.pop("came")
            whose = true[name.removeprefix("orphan-").removeprefix("x")]
            moved, owed = one["ts_us"] - whose["ts_us"], whose["arrives"]
            # what is late comes a day later, and what follows from it not before it
            at_once = came - owed in (0, 1)
            same = [n for n in whose if n in one and n not in (key, "exposure_id", "ts_us", "user_id")]
            assert all(one[n] == whose[n] for n in same)
            if name.startswith("orphan-"):
                kind = "orphan" * (at_once and moved == 0 and one["exposure_id"].startswith("lost-"))
            elif name.startswith("x"):
                shrunk = one["ts_us"] == whose["ts_us"] // 1_000 and one["user_id"] == whose["user_id"]
                kind = "broken" * (at_once and (shrunk or (one["user_id"] is None and moved == 0)))
            elif at_once:
                kind = {0: "row", 30_000_000: "retry"}.get(moved, "")
            else:
                kind = "replay" * (came - owed in (3, 4) and moved == 0)
            assert kind, (source, one)
            kinds.setdefault(whose[key], Counter())[kind] += 1
        assert kinds.keys() == true.keys()
        for found in kinds.values():
            assert found["row"] >= 1
            assert found["row"] + found["retry"] <= 2  # itself, and one copy, exact or later
            assert max(found["orphan"], found["broken"], found["replay"]) <= 1
        seen = sum(kinds.values(), Counter())
        assert any(found["row"] == 2 for found in kinds.values())
        assert seen.keys() == {"row", "retry", "replay", "broken"} | (
            {"orphan"} if source != "exposure" else set()
        )


@pytest.mark.parametrize("moments", [(13,), pytest.param(range(2, 40), marks=pytest.mark.slow)])
def test_a_killed_write_goes_on_to_the_same_files(
    moments: Iterable[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(SMALL, impressions=200)
    days = [few.start + timedelta(days=n) for n in range(2)]
    Simulation(few).write(tmp_path / "whole", days)
    calls = 0

    def killed(folder: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return rename(folder, target)

    rename = Path.rename
    for at in moments:
        calls, folder = 0, tmp_path / f"killed{at}"
        monkeypatch.setattr(Path, "rename", killed)
        try:
            Simulation(few).write(folder, days)
            break
        except KeyboardInterrupt:
            monkeypatch.setattr(Path, "rename", rename)
        for day in days:  # what is seen of a day is whole as soon as its exposures are
            if (folder / "exposure" / f"dt={day}").exists():
                assert tree(folder / "click").keys() >= {f"dt={day}/{day}-0000.parquet"}
        Simulation(few).write(folder, days)
        assert tree(folder) == tree(tmp_path / "whole")
    assert at >= 13


def test_a_folder_of_other_settings_or_of_something_else_is_refused(tmp_path: Path) -> None:
    Simulation(SMALL).write(tmp_path / "one", [])
    with pytest.raises(UsageError, match="seed is 5, asked 6"):
        Simulation(replace(SMALL, seed=6)).write(tmp_path / "one", [])
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        Simulation(SMALL).write(tmp_path / "two", [])
    assert [file.name for file in (tmp_path / "two").iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="begins on 2026-01-05"):
        Simulation(SMALL).write(tmp_path / "one", [date(2026, 1, 4)])


def test_memory_holds_a_block_whatever_the_day_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.simulation.shown.BLOCK", 1_000)
    seen: list[int] = []
    original = module.Folder.put

    def put(self: module.Folder, source: str, name: str, rows: pl.DataFrame) -> None:
        seen.append(rows.height)
        original(self, source, name, rows)

    monkeypatch.setattr(module.Folder, "put", put)
    told: list[int] = []
    Simulation(replace(SMALL, impressions=2_500)).write(
        tmp_path, [SMALL.start], progress=lambda _, rows: told.append(rows)
    )
    assert told == [1_000, 2_000, 2_500]
    assert max(seen) < 1_100  # a block with its copies
    shown = pl.read_parquet(tmp_path / "exposure" / "**/*.parquet")["exposure_id"]
    assert shown.n_unique() > 2_400
