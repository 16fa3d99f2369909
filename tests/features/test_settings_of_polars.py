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


@pytest.mark.parametrize("name", _OURS)
def test_they_are_there_before_polars_is_imported(name: str) -> None:
    if name == "_RJEM_MALLOC_CONF" and sys.platform != "linux":
        pytest.skip("the allocator is told on Linux alone")
    assert told(name) == f"False {_OURS[name]}"


@pytest.mark.parametrize("name", _OURS)
def test_a_setting_of_the_users_is_left_alone(name: str) -> None:
    assert told(name, **{name: "9"}) == "False 9"
