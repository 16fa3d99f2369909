"""Logs that grow: what is read of them does not, and a checkpoint is never needed."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from features import commit, log
from features.delta import open_delta
from features.errors import BadWarehouse
from features.fingerprint import fingerprint
from features.store import Store
from features.tables import Table

DAY = date(2026, 1, 5)
TABLE = Table("samples", pa.schema([("number", pa.int64())]))


def publish(store: Store, day: date, number: int) -> None:
    with store.stage(TABLE, day, fingerprint(number), record={}) as shards:
        shards.write(pl.DataFrame({"number": [number]}))
    store.commit(shards)


def publish_in_turn(barrier: Barrier, root: Path, own: int) -> None:
    """Six days of its own, and one that both writers replace six times."""
    for round_ in range(6):
        barrier.wait(20)
        publish(Store(root), DAY + timedelta(days=100 * own + round_), 1000 * own + round_)
        publish(Store(root), DAY, 1000 * own + 500 + round_)


def numbers(store: Store) -> list[tuple[date, int]]:
    return store.scan(TABLE).select("dt", "number").sort("dt").collect().rows()


def forget() -> None:
    """As in a new process."""
    log._known.clear()


def newest_checkpoint(folder: Path) -> Path:
    return max((folder / "_delta_log").glob("*.checkpoint.parquet"))


def hide_entries(folder: Path) -> int:
    """Remove the log entries that the newest checkpoint stands for; the number of those left."""
    entries = sorted((folder / "_delta_log").glob("*.json"))
    old = [entry for entry in entries if entry.name < newest_checkpoint(folder).name]
    for entry in old:
        entry.unlink()
    return len(entries) - len(old)


def replayed(folder: Path) -> tuple[set[str], Counter[str]]:
    """Live paths and commits by partition, from every entry, by hand."""
    live: set[str] = set()
    commits: Counter[str] = Counter()
    for entry in sorted((folder / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        live -= {action["remove"]["path"] for action in actions if "remove" in action}
        live |= {action["add"]["path"] for action in actions if "add" in action}
        commits.update(action["txn"]["appId"] for action in actions if "txn" in action)
    return live, commits


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of 60 days, a commit each; only to be copied."""
    root = tmp_path_factory.mktemp("sixty")
    for number in range(60):
        publish(Store(root), DAY + timedelta(days=number), number)
    return root


@pytest.fixture
def store(sixty: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(sixty, tmp_path / "warehouse")
    forget()
    yield Store(tmp_path / "warehouse")
    forget()


def test_after_sixty_commits_reading_and_writing_take_the_last_ten_entries(store: Store) -> None:
    before, (_, commits) = numbers(store), replayed(store.folder(TABLE))
    assert before == [(DAY + timedelta(days=n), n) for n in range(60)]
    assert hide_entries(store.folder(TABLE)) <= 10
    forget()
    assert numbers(store) == before
    publish(store, DAY, 77)
    forget()
    assert numbers(store) == [(DAY, 77), *before[1:]]
    delta = DeltaTable(store.folder(TABLE))
    guards = {part: delta.transaction_version(part) for part in commits}
    assert guards == dict(commits + Counter(["dt=2026-01-05"]))


def test_a_table_is_opened_once_for_a_commit_and_never_for_what_has_not_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, listed = [], []

    def counting(folder: Path) -> DeltaTable | None:
        opened.append(folder)
        return open_delta(folder)

    def listing(folder: Path) -> list[str]:
        listed.append(folder)
        return entries(folder)

    entries = log._entries
    monkeypatch.setattr(log, "open_delta", counting)
    monkeypatch.setattr(commit, "open_delta", counting)
    monkeypatch.setattr(log, "_entries", listing)
    for number in range(5):
        publish(store, DAY, 100 + number)
        for _ in range(20):
            assert store.days(TABLE) == [DAY + timedelta(days=n) for n in range(60)]
            assert store.scan(TABLE, [DAY]).collect()["number"].to_list() == [100 + number]
    assert (len(opened), len(listed)) == (5, 0)


def test_a_warehouse_put_in_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    """It has the same version; only the files of its log are others."""
    store, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    publish(store, DAY, 1)
    publish(other, DAY, 2)
    assert numbers(store) == [(DAY, 1)]
    shutil.rmtree(store.root)
    other.root.rename(store.root)
    assert numbers(store) == [(DAY, 2)]


def test_checkpoints_of_racing_writers_hold_what_the_entries_say(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["features.store"])
    barrier = context.Barrier(2)
    children = [context.Process(target=publish_in_turn, args=(barrier, tmp_path, own)) for own in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    store = Store(tmp_path)
    folder = store.folder(TABLE)
    live, commits = replayed(folder)
    assert commits["dt=2026-01-05"] == 12
    assert commits.total() == store.snapshot(TABLE).version == 24
    hide_entries(folder)
    forget()
    assert {str(file.path) for file in store.snapshot(TABLE).files} == live
    delta = DeltaTable(folder)
    assert {part: delta.transaction_version(part) for part in commits} == dict(commits)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_lost_without_it(store: Store, damage: str) -> None:
    torn = newest_checkpoint(store.folder(TABLE))
    if damage == "gone":
        torn.unlink()
    else:
        torn.write_bytes(torn.read_bytes()[:2000] if damage == "cut" else b"")
    with pytest.raises(BadWarehouse) as refused:
        numbers(store)
    pointer, newest = torn.with_name("_last_checkpoint"), newest_checkpoint(store.folder(TABLE))
    assert str(refused.value).startswith(f"E503 BadWarehouse: {store.folder(TABLE)}: ")
    assert f"remove {pointer} and, if that is not enough, {newest}: " in str(refused.value)
    pointer.unlink()
    if damage == "cut":
        newest.unlink()
    publish(store, DAY + timedelta(days=60), 60)
    forget()
    assert numbers(store) == [(DAY + timedelta(days=n), n) for n in range(61)]


@pytest.mark.parametrize("left", ["older", "cut", "gone"])
def test_a_writer_killed_in_the_middle_of_a_checkpoint_does_no_harm(store: Store, left: str) -> None:
    """The file of the checkpoint comes first, the pointer to it last."""
    pointer = store.folder(TABLE) / "_delta_log" / "_last_checkpoint"
    told = json.loads(pointer.read_text())
    if left == "gone":
        pointer.unlink()
    else:
        older = {"version": told["version"] - 10, "size": told["size"] - 20}
        pointer.write_text(json.dumps(older) if left == "older" else pointer.read_text()[:10])
    assert numbers(store) == [(DAY + timedelta(days=n), n) for n in range(60)]
    publish(store, DAY + timedelta(days=60), 60)
    forget()
    assert numbers(store)[-1] == (DAY + timedelta(days=60), 60)
