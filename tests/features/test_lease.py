"""One holder at a time, and a dead one holds nothing."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.errors import Busy
from features.lease import lease
from features.store import Store

HOLD = (
    "import sys; from features.store import Store\n"
    "with Store(sys.argv[1]).lease('samples-2026-01-05'):\n"
    "    print('held', flush=True); sys.stdin.readline()\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holds = f"samples-2026-01-05: held by process {holder.pid} on .* since 20"
    with pytest.raises(Busy, match=holds), Store(tmp_path).lease("samples-2026-01-05"):
        pass
    with Store(tmp_path).lease("samples-2026-01-06"):  # another name is free
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(20)
    with Store(tmp_path).lease("samples-2026-01-05"):
        pass


def test_a_lease_may_be_waited_for(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    threading.Timer(0.2, holder.stdin.close).start()
    with Store(tmp_path).lease("samples-2026-01-05", wait=20.0):
        assert holder.wait(20) == 0


def test_a_lease_is_free_after_its_block_however_it_ends(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="boom"), store.lease("day"):
            raise RuntimeError("boom")
    with store.lease("day"), pytest.raises(Busy, match=f"process {os.getpid()}"), store.lease("day"):
        pass


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "a b", "a\n", "-x"])
def test_a_lease_is_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="Lease must match"):
        Store(tmp_path).lease(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("signs", "said"), [(True, "process 7 on here since 2026"), (False, "a process that has not signed yet")]
)
def test_a_holder_that_has_just_begun_is_given_time_to_sign(tmp_path: Path, signs: bool, said: str) -> None:
    path = tmp_path / "run"
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        card = json.dumps({"pid": 7, "host": "here", "started": "2026-01-05T00:00:00"})
        timer = threading.Timer(0.2, lambda: path.write_text(card))
        if signs:
            timer.start()
        with pytest.raises(Busy, match=said), lease(path):
            pass
        timer.cancel()
