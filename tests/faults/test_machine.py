"""F07 to F11, F52, F56: the machine denies room, memory, rights or time; numbers explode; Prefect is gone.

The disk is full for real: a file system of a few megabytes in memory where it may be mounted, else a limit
on the size of files (``RLIMIT_FSIZE``). A folder is read-only for real too: the thread gives up the
superuser's right to write everywhere.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from fault_house import (
    FIRST,
    LINES,
    SECOND,
    ledger,
    no_file_above,
    nothing_is_left,
    open_house,
    published,
    tree,
)

from features.errors import BadWarehouse, DiskFull, NotFinite, OutOfMemory
from features.scenarios.shop import SCENARIO
from features.schemas import scores
from features.store import Store
from features.tables import Table
from flows import cli
from flows.day import STAGES, run_day
from flows.house import House
from flows.recipes import Recipe
from flows.recipes import shop as recipes
from flows.surroundings import refuse_unwritable, telling

ROOT = Path(__file__).resolve().parents[2]
READ = STAGES[0]


def test_F08_F09_F52_a_day_without_room_or_finite_losses_publishes_nothing_and_then_completes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = published(house)
    with (
        no_file_above(60_000),
        pytest.raises(DiskFull, match=r"^E505 .*sample of 2026-03-28.* MiB of ") as full,
    ):
        run_day(house, SECOND, LINES)
    assert full.value.exit_code == 5
    assert published(house) == before
    nothing_is_left(house)
    with no_file_above(200_000), pytest.raises(DiskFull, match=r"^E505 .*train of 2026-03-28"):
        run_day(house, SECOND, LINES)  # the checkpoint is larger than that
    assert published(house)["models"] == [FIRST]
    assert [p.name for p in (house.store.root / "checkpoints" / "esmm").iterdir() if p.name[0] != "."] == [
        p.name for p in (house.store.root / "checkpoints" / "esmm").iterdir()
    ]
    careful = recipes.esmm()

    def esmm() -> Recipe:
        return replace(careful, dense_rate=1e38, embedding_rate=1e38)

    esmm.__module__ = recipes.__name__
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "esmm", esmm)
        with pytest.raises(NotFinite, match=r"^E411 .*line esmm of 2026-03-28.* at step \d+.*Next: lower"):
            run_day(house, SECOND, LINES)
    assert published(house)["models"] == [FIRST]
    assert published(house)[scores(SCENARIO).name] == [FIRST + timedelta(days=1)]
    assert [state for state, _ in ledger(house)] == ["failed"]  # of a full disk there is no room to tell
    run_day(house, SECOND, LINES)
    assert published(house)[scores(SCENARIO).name][-1] == SECOND + timedelta(days=1)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no file system may be mounted here; the limit on sizes above stands for it")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_F08_a_disk_of_a_few_kilobytes_that_fills_up_is_named_with_what_is_free(
    first_day: Path, tmp_path: Path
) -> None:
    (tmp_path / "warehouse").mkdir()
    with small_disk(tmp_path / "warehouse", 40):
        (tmp_path / "logs").symlink_to(first_day / "logs")
        house = open_house(tmp_path)
        with pytest.raises(DiskFull, match=r"^E505 .*read of 2026-03-28.*No space left.* of 0 are free"):
            run_day(house, SECOND, LINES)
        nothing_is_left(house)
        assert not house.store.days(scores(SCENARIO))


def test_F09_a_full_disk_under_a_commit_leaves_the_version_before(tmp_path: Path) -> None:
    table = Table("numbers", pa.schema([("a", pa.int64())]))
    store = Store(tmp_path / "warehouse" / "shop")
    house = open_house(tmp_path)

    def staged(value: int) -> object:
        with store.stage(table, FIRST, f"{value:016x}", record={}) as shards:
            shards.write(pa.table({"a": [value]}))
        return shards.staged

    store.commit(staged(1))  # type: ignore[arg-type]
    second = staged(2)
    with no_file_above(100), pytest.raises(DiskFull, match=r"^E505 "), telling(house, "publish"):
        store.commit(second)  # type: ignore[arg-type]
    assert store.scan(table).collect()["a"].to_list() == [1]
    store.commit(second)  # type: ignore[arg-type]
    assert store.scan(table).collect()["a"].to_list() == [2]


@contextmanager
def without_the_superusers_right() -> Iterator[None]:
    """This thread may write only where the permissions say so; nothing to give up for anybody else."""
    if os.getuid() or not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    fewer = (ctypes.c_uint32 * 6)(*held)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH of the effective set
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


def test_F10_a_read_only_warehouse_is_refused_before_any_work_begins(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(house.logs.parent)
    text = 'scenario = "shop"\nrecipes = ["esmm"]\nthreads = 2\nlogs.shop = "logs"\n'
    Path("funnelcast.toml").write_text(text, "utf-8")
    before = tree(house)
    house.store.root.chmod(0o555)
    try:
        with without_the_superusers_right():
            assert cli.main(["run", "--date", str(SECOND)]) == 5
            with pytest.raises(BadWarehouse, match="no work was begun"):
                refuse_unwritable(house)
    finally:
        house.store.root.chmod(0o755)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"E503 BadWarehouse: {house.store.root}: cannot be written")
    assert "FUNNELCAST_WAREHOUSE" in line
    assert tree(house) == before
    assert not (house.settings.warehouse / ".prefect").exists()  # not even an orchestrator was started
    refuse_unwritable(house)
    assert tree(house) == before


def test_F11_too_little_memory_names_the_setting_to_change(house: House) -> None:
    poor = open_house(house.logs.parent, memory_limit="1MB")
    with pytest.raises(
        OutOfMemory, match=r"^E506 .*read of 2026-03-28.*memory_limit is 1MB.*Next: raise"
    ) as told:
        READ.run(poor, SECOND, LINES)
    assert told.value.exit_code == 5
    nothing_is_left(house)
    READ.run(house, SECOND, LINES)


@pytest.mark.slow
def test_F07_F56_sigterm_gives_everything_back_and_without_prefect_the_same_command_completes(
    house: House,
) -> None:
    root = house.logs.parent
    text = 'scenario = "shop"\nrecipes = ["esmm"]\nthreads = 2\nlogs.shop = "logs"\n'
    (root / "funnelcast.toml").write_text(text, "utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # nobody listens there
    }
    command = [sys.executable, "-m", "flows.cli", "run", "--date", str(SECOND)]
    run = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)
    samples = house.store.root / "samples"
    known, end = set(samples.rglob("*.parquet")), time.monotonic() + 120
    while set(samples.rglob("*.parquet")) == known and run.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert said.splitlines()[-1] == "Interrupted. The same command again continues where it stopped."
    nothing_is_left(house)
    assert [state for state, _ in ledger(house)] == ["interrupted"]
    with house.store.lease("run"):
        assert published(house)["models"] == [FIRST]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "E504 NoPrefectApi: http://127.0.0.1:9/api: does not answer" in done.stderr
    assert "The days run without Prefect" in done.stderr
    assert published(house)[scores(SCENARIO).name][-1] == SECOND + timedelta(days=1)
