"""`funnelcast verify` finds whatever is not as it was committed, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from model_rows import add_model
from shop_house import open_house, run, tree
from shop_logs import write_logs

from features.bookkeeping import MODELS
from features.errors import BadWarehouse, ChecksumMismatch
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows import cli
from flows.house import House
from flows.stages.publish import refresh_catalogue
from flows.verify import refuse, verified
from flows.verify_report import Progress, amount

DAYS = (date(2026, 3, 27), date(2026, 3, 28))
SAMPLES = samples(SCENARIO)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two days up to their samples, a model of each day, and a catalogue."""
    root = tmp_path_factory.mktemp("made")
    write_logs(root / "logs", DAYS)
    house = open_house(root)
    run(house, *DAYS)
    for day in DAYS:
        found = house.store.generation(SAMPLES, day)
        assert found is not None
        add_model(house, day, {f"samples {day}": found.key})
    refresh_catalogue(house)
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> Iterator[House]:
    """The house to spoil, put right afterwards; in its own place, so that its catalogue stays true."""
    shutil.copytree(made.store.root, tmp_path / "copy", symlinks=True)
    yield made
    shutil.rmtree(made.store.root)
    shutil.copytree(tmp_path / "copy", made.store.root, symlinks=True)


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def a_file(house: House) -> Path:
    return house.store.paths(SAMPLES, house.store.snapshot(SAMPLES).files)[0]


def a_checkpoint(house: House) -> Path:
    return min(house.store.root.glob("checkpoints/esmm/*"))


def test_what_was_committed_is_found_sound_and_left_alone(made: House) -> None:
    before, seen = tree(made), []
    found = verified(made, lambda done, of: seen.append((done, of)))
    refuse(found)
    assert (found.faults, found.checkpoints, found.running) == ((), 2, False)
    on_disk = {path for path in made.store.root.rglob("dt=*/**/*.parquet") if "_staging" not in path.parts}
    replaced = {one.path for one in found.loose}
    assert found.files == len(on_disk - replaced)
    # The samples of the first day were restated by the second: its first file is nobody's now.
    assert [one.why for one in found.loose] == ["of a replaced or unfinished day"]
    assert [path.parent.name for path in replaced] == [f"dt={DAYS[0]}"]
    assert seen[-1] == (found.size, found.size)
    assert found.size == sum(path.stat().st_size for path in on_disk - replaced) + sum(
        path.stat().st_size for path in made.store.root.glob("checkpoints/*/*/model.safetensors")
    )
    assert tree(made) == before


def change_rows(house: House) -> None:
    """A log that tells another number of rows than its file has."""
    entry = max((house.store.folder(SAMPLES) / "_delta_log").glob("*.json"))
    text = entry.read_text()
    rows = house.store.snapshot(SAMPLES).files[-1].rows
    assert f'\\"numRecords\\": {rows}' in text
    entry.write_text(text.replace(f'\\"numRecords\\": {rows}', f'\\"numRecords\\": {rows + 1}'))


def name_elsewhere(house: House) -> None:
    """A model row whose checkpoint leads out of the warehouse."""
    for table_file in house.store.paths(MODELS, house.store.snapshot(MODELS).files):
        shutil.rmtree(table_file.parent)
    shutil.rmtree(house.store.folder(MODELS) / "_delta_log")
    add_model(house, DAYS[0], {"x": "y"}, line="esmm")
    import polars as pl

    rows = house.store.scan(MODELS).drop("dt", "line").collect()
    rows = rows.with_columns(checkpoint=pl.lit("checkpoints/../../../../etc"))
    with house.store.stage(MODELS, DAYS[0], "0" * 16, record={}, line="esmm") as shards:
        shards.write(rows)
    house.store.commit(shards)


FAULTS: dict[str, tuple[Callable[[House], object], str, str]] = {
    "F24 one bit of a data file": (lambda h: flip(a_file(h)), "E502", "sha256"),
    "a data file cut short": (lambda h: os.truncate(a_file(h), 99), "E502", "99 bytes, committed"),
    "a data file gone": (lambda h: a_file(h).unlink(), "E503", "is missing"),
    "another number of rows": (change_rows, "E503", "rows, committed"),
    "F25 one bit of a model": (lambda h: flip(a_checkpoint(h) / "model.safetensors"), "E502", "not the file"),
    "one bit of a manifest": (lambda h: flip(a_checkpoint(h) / "manifest.json"), "E502", "manifest"),
    "a model gone": (lambda h: shutil.rmtree(a_checkpoint(h)), "E503", "holds no checkpoint"),
    "weights gone": (lambda h: (a_checkpoint(h) / "model.safetensors").unlink(), "E503", "is missing"),
    "a checkpoint out of the root": (name_elsewhere, "E503", "lies elsewhere"),
    "a torn log entry": (
        lambda h: os.truncate(h.store.folder(SAMPLES) / "_delta_log" / f"{1:020}.json", 40),
        "E50",
        "torn or changed",
    ),
    "a log entry gone": (
        lambda h: (h.store.folder(SAMPLES) / "_delta_log" / f"{0:020}.json").unlink(),
        "E503",
        "entry 0 is missing",
    ),
    "the catalogue gone": (lambda h: h.catalog.unlink(), "E503", "catalog.duckdb: is missing"),
    "the catalogue torn": (lambda h: os.truncate(h.catalog, 5000), "E503", "cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_by_its_name(house: House, fault: str) -> None:
    spoil, code, said = FAULTS[fault]
    spoil(house)
    before = tree(house)
    found = verified(house)
    texts = [f"{one.where}: {one.found}" for one in found.faults]
    assert any(said in text for text in texts), texts
    with pytest.raises((ChecksumMismatch, BadWarehouse)) as caught:
        refuse(found)
    assert caught.value.code.startswith(code)
    assert tree(house) == before


def test_an_old_catalogue_is_a_fault_until_it_is_rebuilt(house: House) -> None:
    day = DAYS[1]
    with house.store.stage(SAMPLES, day, "1" * 16, record={}) as shards:
        shards.write(house.store.scan(SAMPLES, [day]).drop("dt"))
    house.store.commit(shards)
    (fault,) = verified(house).faults
    assert (fault.where, "files that are not live" in fault.found) == (str(house.catalog), True)
    with house.store.lease("run"):
        assert verified(house).faults == ()  # it is between the commit and the catalogue of a run
        assert verified(house).running
    refresh_catalogue(house)
    assert verified(house).faults == ()


def test_wherever_a_bit_flips_the_file_is_named(house: House) -> None:
    chance = random.Random(5)
    live = [f for t in (SAMPLES, MODELS) for f in house.store.paths(t, house.store.snapshot(t).files)]
    hit = {path: path.read_bytes() for path in live}
    for _ in range(12):
        path = chance.choice(live)
        flip(path, chance.random())
        assert str(path) in {fault.where for fault in verified(house).faults}
        path.write_bytes(hit[path])
    assert verified(house).faults == ()


def test_F26_what_nobody_refers_to_is_listed_by_what_it_is(house: House, tmp_path: Path) -> None:
    root = house.store.root
    (root / "samples" / "tmp_part.parquet").write_bytes(b"x" * 10)
    (root / "samples" / "notes.txt").write_text("mine")
    (root / "checkpoints" / "esmm" / ".half.written").mkdir()
    (root / "checkpoints" / "esmm" / ".half.written" / "model.safetensors").write_bytes(b"x")
    (root / "_staging" / "dead").mkdir(parents=True)
    (root / "_staging" / "dead" / "00000.parquet").write_bytes(b"x")
    (tmp_path / "secret").mkdir()
    (root / "events" / "stolen").symlink_to(tmp_path / "secret")
    told = {one.path.name: one.why for one in verified(house).loose}
    assert told.pop("tmp_part.parquet") == "of a replaced or unfinished day"
    assert told.pop("notes.txt") == "not of this store"
    assert told.pop("model.safetensors") == "a checkpoint that no version refers to"
    assert told.pop("00000.parquet") == "scratch of a run"
    assert told.pop("stolen") == f"a link out of the warehouse, to {tmp_path / 'secret'}"
    assert len(told) == 1  # the restated samples


def test_the_command_says_it_in_one_line_and_exits_5(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(house.settings.warehouse))
    monkeypatch.setenv("FUNNELCAST_SCENARIO", "shop")
    assert cli.main(["verify"]) == 0
    assert "2 checkpoints" in (told := capsys.readouterr().out)
    assert told.rstrip().endswith("all as committed")
    flip(a_file(house))
    assert cli.main(["verify", "--json"]) == 5
    shown = capsys.readouterr()
    assert [fault["where"] for fault in json.loads(shown.out)["faults"]] == [str(a_file(house))]
    assert json.loads(shown.err)["error"].startswith("E502 ChecksumMismatch: ")
    assert cli.main(["verify"]) == 5
    assert "Not as it was committed" in capsys.readouterr().out


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flows.verify_report._EVERY_SECONDS", -1.0)
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    with caplog.at_level("INFO", "funnelcast.verify"), Progress() as progress:
        import logging

        logging.getLogger("funnelcast").propagate = True
        progress.step(1_500_000, 3_000_000_000)
    assert "verified 1.5 MB of 3.0 GB" in caplog.text
    assert amount(999) == "999 B"
