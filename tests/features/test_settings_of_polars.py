"""Settings that Polars reads from the environment: ours before it is imported, the user's before ours."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_TOLD = "import features, os, sys; print('polars' in sys.modules, os.environ.get({name!r}))"
_OURS = {"POLARS_ROW_GROUP_PREFETCH_SIZE": "3", "_RJEM_MALLOC_CONF": "dirty_decay_ms:100,muzzy_decay_ms:0"}


def told(name: str, **users: str) -> str:
    """Whether Polars is imported, and what stands in the environment once the package is."""
    kept = {other: value for other, value in os.environ.items() if other not in _OURS}
    run = subprocess.run(
        [sys.executable, "-c", _TOLD.format(name=name)],
        capture_output=True,
        text=True,
        env=kept | {"POLARS_MAX_THREADS": "3"} | users,
        check=True,
    )
    return run.stdout.strip()


linux = pytest.mark.skipif(sys.platform != "linux", reason="the allocator is told on Linux alone")


@pytest.mark.parametrize(
    "name", ["POLARS_ROW_GROUP_PREFETCH_SIZE", pytest.param("_RJEM_MALLOC_CONF", marks=linux)]
)
def test_they_are_there_before_polars_is_imported(name: str) -> None:
    assert told(name) == f"False {_OURS[name]}"


def test_a_setting_of_the_users_is_left_alone() -> None:
    name = "POLARS_ROW_GROUP_PREFETCH_SIZE"
    assert told(name, **{name: "9"}) == "False 9"


@linux
@pytest.mark.parametrize("generations", [1, 2])
def test_the_user_has_the_last_word_in_a_process_and_in_its_children(generations: int) -> None:
    code = "import features, polars, os; print(os.environ['_RJEM_MALLOC_CONF'])"
    users = {"_RJEM_MALLOC_CONF": "dirty_decay_ms:7,narenas:2"}
    for _ in range(generations):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | users
        )
        users["_RJEM_MALLOC_CONF"] = run.stdout.strip()
    found = users["_RJEM_MALLOC_CONF"].split(",")
    assert found[-4:] == [*_OURS["_RJEM_MALLOC_CONF"].split(","), "dirty_decay_ms:7", "narenas:2"]
    assert found.count("narenas:2") == 1
