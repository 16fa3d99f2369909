"""Upkeep removes what is over, and nothing that anybody can still ask for."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from model_rows import add_model
from shop_house import open_house, tree

from features.bookkeeping import MODELS, RUNS
from features.errors import BadWarehouse, Busy
from features.fingerprint import fingerprint
from features.scenarios.shop import SCENARIO
from features.schemas import scores
from features.tables import Table
from flows import cli
from flows.house import House
from flows.maintain import CROWD, Keep, maintained
from flows.stages.publish import refresh_catalogue
from flows.verify import verified
from models.checkpoint import load
from models.manifest import MANIFEST, RETIRED, TENSORS

TABLE = Table("extra", pa.schema([("number", pa.int64())]))
START = datetime(2026, 1, 5, 6)  # a Monday
FAR = datetime(2027, 1, 1)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return open_house(tmp_path)


def put(house: House, day: date, number: int) -> str:
    key = fingerprint([str(day), number])
    with house.store.stage(TABLE, day, key, record={}) as shards:
        shards.write(pl.DataFrame({"number": [number]}))
    house.store.commit(shards)
    return key


def dated(house: House, table: Table, moments: Sequence[datetime]) -> None:
    """Let the versions of a table have been made at these instants, and its files be as old as the first."""
    folder = house.store.folder(table)
    for moment, entry in zip(moments, sorted((folder / "_delta_log").glob("*.json")), strict=True):
        lines = [json.loads(line) for line in entry.read_text().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
        entry.write_text("\n".join(json.dumps(line) for line in lines))
    for file in folder.rglob("*.parquet"):
        os.utime(file, (moments[0].replace(tzinfo=UTC).timestamp(),) * 2)


def test_the_newest_version_of_each_day_and_week_stays_whole(house: House) -> None:
    """Two versions a day for fourteen days; brute force remembers what each of them held."""
    held: list[set[Path]] = []
    moments = [START]
    for n in range(28):
        put(house, date(2026, 1, 1 + n % 3), n)
        held.append(set(house.store.paths(TABLE, house.store.snapshot(TABLE).files)))
        moments.append(START + timedelta(days=n // 2, hours=n % 2))
    dated(house, TABLE, moments)
    last_of_day, last_of_week = {}, {}
    for number, files in enumerate(held, start=1):
        last_of_day[moments[number].date()] = (number, files)
        last_of_week[(moments[number].date() - date(2026, 1, 5)).days // 7] = (number, files)
    stay = [last_of_day[day] for day in sorted(last_of_day)[-4:]]
    stay += [last_of_week[week] for week in sorted(last_of_week)[-2:]]
    wanted = set().union(*(files for _, files in stay))
    everything = set(house.store.folder(TABLE).rglob("dt=*/*.parquet"))
    told = maintained(house, Keep(days=4, weeks=2), dry_run=True, now=FAR)
    assert set(house.store.folder(TABLE).rglob("dt=*/*.parquet")) == everything
    done = maintained(house, Keep(days=4, weeks=2), dry_run=False, now=FAR)
    assert done == told
    assert {one.path for one in done.removed} == everything - wanted
    assert set(house.store.folder(TABLE).rglob("dt=*/*.parquet")) == wanted
    for number, files in stay:
        version = DeltaTable(house.store.folder(TABLE), version=number)
        assert {Path(uri) for uri in version.file_uris()} == files
        assert version.to_pyarrow_table().num_rows == len(files)
    assert verified(house).faults == ()
    assert maintained(house, Keep(days=4, weeks=2), dry_run=False, now=FAR).removed == ()


def test_what_was_replaced_within_the_week_stays(house: House) -> None:
    for n in range(5):
        put(house, date(2026, 1, 1), n)
    dated(house, TABLE, [START, *[START + timedelta(days=n) for n in range(5)]])
    keep = Keep(days=1, weeks=0)
    # Version n was replaced at day n + 1; the last is live.
    now = START + timedelta(days=9, hours=1)
    gone = maintained(house, keep, dry_run=True, now=now).removed
    assert len(gone) == 2
    assert len(maintained(house, keep, dry_run=True, now=FAR).removed) == 4
    assert maintained(house, keep, dry_run=True, now=START + timedelta(days=5)).removed == ()


def test_what_a_living_model_was_trained_on_is_pinned_and_its_old_siblings_are_not(house: House) -> None:
    keys = [put(house, date(2026, 1, 1), n) for n in range(4)]
    dated(house, TABLE, [START, *[START + timedelta(hours=n) for n in range(4)]])
    add_model(house, date(2026, 1, 1), {"samples 2026-01-01": keys[0]})
    add_model(house, date(2026, 1, 2), {"samples 2026-01-01": keys[1], "parent": "none"})
    done = maintained(house, Keep(days=1, weeks=0), dry_run=False, now=FAR)
    gone = {one.path.name[:16] for one in done.removed if one.path.suffix == ".parquet"}
    assert gone == {keys[0], keys[2]}  # of keys[0], the model has no weights any more
    (line,) = {one.path.parent.parent.name for one in done.removed if one.path.name == TENSORS}
    assert line == "esmm"


def test_weights_go_by_day_and_week_and_what_is_scored_with_keeps_them(house: House) -> None:
    days = [date(2026, 1, 5) + timedelta(days=n) for n in range(18)]
    folders = {day: add_model(house, day, {"n": str(day)}) for day in days}
    other = add_model(house, days[0], {"n": "x"}, line="ple")
    published = scores(SCENARIO)
    row = (
        pl.DataFrame(published.schema.empty_table())
        .clear(1)
        .with_columns(model_version=pl.lit(folders[days[2]].name))
    )
    with house.store.stage(published, days[-1], "1" * 16, record={}, line="esmm") as shards:
        shards.write(row)
    house.store.commit(shards)
    done = maintained(house, Keep(days=3, weeks=2), dry_run=False, now=FAR)
    with_weights = {day for day, folder in folders.items() if (folder / TENSORS).exists()}
    sundays = {date(2026, 1, 18)}  # the last of the week before; the other week ends with the newest
    assert with_weights == {*days[-3:], *sundays, days[2]}
    assert (other / TENSORS).exists()
    assert len(done.removed) == 18 - 5
    for day, folder in folders.items():
        assert (folder / MANIFEST).exists()  # the version is known, and its day stays finished
        assert (folder / RETIRED).exists() is (day not in with_weights)
    load(folders[days[-1]])
    with pytest.raises(FileNotFoundError, match="was removed by funnelcast maintain"):
        load(folders[days[0]])
    refresh_catalogue(house)
    found = verified(house)
    assert (found.faults, found.checkpoints) == ((), 6)


def test_debris_goes_and_what_is_not_ours_stays(house: House, tmp_path: Path) -> None:
    put(house, date(2026, 1, 1), 1)
    (folder,) = {path.parent for path in house.store.folder(TABLE).rglob("dt=*/*.parquet")}
    root = house.store.root
    theirs = [folder / "notes.txt", folder / "tmp_x.parquet", root / "README"]
    for path in theirs:
        path.write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{'a' * 16}-00000-{'b' * 16}.parquet").write_text("mine")
    (root / "extra" / "dt=2026-01-09").symlink_to(outside)
    orphan = folder / f"{'c' * 16}-00000-{'d' * 16}.parquet"
    orphan.write_text("of a killed run")
    models = ("checkpoints/esmm/.half.x", "checkpoints/esmm/" + "e" * 16)
    for place in ("_staging/dead", "_scratch/duckdb-x", *models):
        (root / place).mkdir(parents=True)
        (root / place / "file").write_bytes(b"123")
    with house.store.stage(TABLE, date(2026, 1, 2), "f" * 16, record={}) as shards:  # a living writer
        shards.write(pl.DataFrame({"number": [1]}))
        done = maintained(house, Keep(), dry_run=False, now=FAR)
    house.store.commit(shards)
    gone = {str(one.path.relative_to(root)): one.why for one in done.removed}
    assert gone == {
        str(orphan.relative_to(root)): "never committed",
        "_staging/dead": "left by a killed run",
        "_scratch/duckdb-x": "left by a killed run",
        "checkpoints/esmm/.half.x": "left by a killed run",
        "checkpoints/esmm/" + "e" * 16: "checkpoint of no version",
    }
    assert not any((root / name).exists() for name in gone)
    assert all(path.exists() for path in (*theirs, *outside.iterdir()))
    assert house.store.scan(TABLE).collect().height == 2


def test_F14_while_a_run_goes_on_nothing_is_removed(house: House) -> None:
    put(house, date(2026, 1, 1), 1)
    put(house, date(2026, 1, 1), 2)
    before = tree(house)
    with house.store.lease("run"), pytest.raises(Busy, match=f"process {os.getpid()} on .* since "):
        maintained(house, Keep(), dry_run=False, now=FAR)
    assert tree(house) == before


@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_a_log_that_cannot_be_read_keeps_everything(house: House, damage: str) -> None:
    for n in range(4):
        put(house, date(2026, 1, 1), n)
    refresh_catalogue(house)
    entry = house.store.folder(TABLE) / "_delta_log" / f"{1:020}.json"
    entry.write_text(entry.read_text()[:50]) if damage == "torn" else entry.unlink()
    files = set(house.store.root.rglob("*.parquet"))
    with pytest.raises(BadWarehouse):
        maintained(house, Keep(days=1, weeks=0), dry_run=False, now=FAR)
    assert set(house.store.root.rglob("*.parquet")) == files


def test_many_small_files_of_the_ledger_become_one_and_say_the_same(house: House) -> None:
    day, empty = date(2026, 1, 1), pl.DataFrame(RUNS.schema.empty_table())
    for n in range(CROWD):
        house.store.append(RUNS, day, empty.clear(1).with_columns(run_key=pl.lit(str(n))))
    house.store.append(RUNS, date(2026, 1, 2), empty.clear(1))
    before = house.store.scan(RUNS).collect()
    assert maintained(house, Keep(), dry_run=True).joined == ((day, CROWD),)
    assert maintained(house, Keep(), dry_run=False).joined == ((day, CROWD),)
    assert [len(files) for files in house.store.snapshot(RUNS).by_day.values()] == [1, 1]
    assert house.store.scan(RUNS).collect().equals(before)
    assert duckdb.connect(house.catalog, read_only=True).sql("FROM runs").pl().height == CROWD + 1
    assert maintained(house, Keep(), dry_run=True).joined == ()
    assert verified(house).faults == ()


def test_readers_read_on_while_upkeep_removes(house: House) -> None:
    """One holds an old catalogue, others ask for the newest rows; all of them see one whole version."""
    empty = pl.DataFrame(RUNS.schema.empty_table())
    for n in range(CROWD):
        house.store.append(RUNS, date(2026, 1, 1), empty.clear(1).with_columns(run_key=pl.lit(str(n))))
    refresh_catalogue(house)
    old = duckdb.connect(house.catalog, read_only=True)
    stop, reads, wrong = threading.Event(), [0, 0], []

    def read(which: int) -> None:
        cursor = old.cursor()
        while not stop.is_set():
            if which == 0:
                height = len(cursor.execute("SELECT DISTINCT run_key FROM runs").fetchall())
            else:
                height = house.store.scan(RUNS).select("run_key").unique().collect().height
            reads[which] += 1
            if height != CROWD:
                wrong.append((which, height))

    threads = [threading.Thread(target=read, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for n in range(2):
        put(house, date(2026, 1, 1), n)
        maintained(house, Keep(days=1, weeks=0), dry_run=False)
    while min(reads) < 20 and not wrong:
        pass
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert len(house.store.snapshot(RUNS).files) == 1


def test_the_command_says_how_many_bytes_and_a_dry_run_changes_none(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(4):
        put(house, date(2026, 1, 1), n)
    dated(house, TABLE, [START] * 5)
    refresh_catalogue(house)
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(house.settings.warehouse))
    monkeypatch.setenv("FUNNELCAST_SCENARIO", "shop")
    before = tree(house)
    assert cli.main(["maintain", "--dry-run"]) == 0
    assert "3 would be removed" in capsys.readouterr().out
    assert tree(house) == before
    assert cli.main(["maintain", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    gone = {Path(one["path"]): one["bytes"] for one in told["removed"]}
    assert told["bytes"] == sum(gone.values()) > 0
    assert set(before) - set(tree(house)) == set(gone)
    assert cli.main(["maintain"]) == 0
    assert "0 removed" in capsys.readouterr().out
    assert MODELS.name not in {path.parent.name for path in gone}
