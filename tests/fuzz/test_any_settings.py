"""Whatever stands in the settings file or the environment: settings that work, or one line with the key."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fuzz_deliveries import told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.engine import connect
from features.errors import FunnelcastError, UsageError
from flows.house import House
from flows.settings import Settings

FEW = settings(
    max_examples=100, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
MANY = settings(FEW, max_examples=5_000, derandomize=False)
KEYS = [
    *Settings.model_fields,
    "warehous",
    "logs.shop",
    "logs.kuairand.x",
    "config",
    "home",
    "model_config",
    "",
]
#: What each key could be given by somebody who means well, and then by others.
SAID: list[Any] = [
    "warehouse", "~/w", "~nobody-of-that-name", "", ".", "..", "/", "a\x00b", "s3://a:b@c", "w*", "x" * 5000,
    "shop", "kuairand", "esmm,ple", ",", "[]", "{}", '{"shop": "x"}', "null", "true", "Asia/Shanghai",
    "../../etc/passwd", "4GB", "0B", "1.5 KiB", "-1GB", "999999TB", "4" * 300 + "GB", "1e9", "\u0664GB",
    "0", "1", "-1", "4096", "4097", "9" * 400, "1.0", "0x10", "1_000", " 7 ", "[" * 20_000, '{"a":' * 20_000,
    0, 1, -1, 4096, 2**63, 10**400, 1.5, 1e308, float("inf"), True, None,
    [], ["esmm"], [1, [2]], {}, {"shop": "x"}, {"shop": 3}, {"shop": {"a": "b"}}, {"": ""}, {"a\x00": "b"},
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(SAID), st.text(max_size=30), st.integers(), st.floats(), st.booleans(),
    st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3),
    st.lists(st.text(max_size=9), max_size=3),
)  # fmt: skip
#: What no text of the other kinds would hit upon: numbers and depths that Python's own readers refuse.
TEXTS = [
    b"threads = " + b"9" * 5000, b"logs = " + b"[" * 20_000, b"a" + b".a" * 20_000 + b" = 1",
    b"\xef\xbb\xbfthreads = 1", b"threads = 1\x00",
]  # fmt: skip


def as_toml(value: Any) -> str:
    """A value as TOML writes it, as far as it can."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Lines of keys and values, or no such thing."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=4))
    text = "\n".join(f"{key} = {as_toml(value)}" for key, value in pairs).encode("utf-8", "surrogatepass")
    noise = draw(
        st.one_of(st.sampled_from(TEXTS), st.binary(max_size=12), st.text(max_size=12).map(str.encode))
    )
    at = draw(st.integers(0, len(text)))
    return draw(st.sampled_from([text, text, text[:at] + noise + text[at:], noise]))


def _variable(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


ENVIRONMENTS = st.dictionaries(
    st.sampled_from([f"FUNNELCAST_{key.upper().replace('.', '__')}" for key in KEYS]), VALUES.map(_variable),
    max_size=4,
)  # fmt: skip


def usable(content: bytes | None, environment: dict[str, str]) -> str:
    """What comes of it: the code of an error, or ``works``, and then all that the settings promise does."""
    if content is not None:
        Path("funnelcast.toml").write_bytes(content)
    with patch.dict(os.environ, environment):
        try:
            found = Settings.load()
        except UsageError as error:
            return error.code
        assert found.warehouse.is_absolute()
        assert all(folder.is_absolute() for folder in found.logs.values())
        assert found.memory_bytes >= 0
        try:
            house = House.open(found)
        except FunnelcastError as error:  # no such scenario; a folder that readers would take for a pattern
            return f"then {error.code}"
        limits = house.limits
        with connect(type(limits)(memory=limits.memory, threads=min(limits.threads, 4), scratch=Path("s"))):
            return "works"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attempts(chosen: settings) -> Counter[str]:
    counts: Counter[str] = Counter()

    @chosen
    @given(files())
    def from_a_file(content: bytes) -> None:
        counts[usable(content, {})] += 1

    @chosen
    @given(ENVIRONMENTS)
    def from_the_environment(environment: dict[str, str]) -> None:
        counts[usable(None, environment)] += 1

    from_a_file()
    Path("funnelcast.toml").unlink(missing_ok=True)
    from_the_environment()
    return counts


def test_settings_work_or_are_refused_in_one_line(here: Path) -> None:
    counts = attempts(FEW)
    assert min(counts["works"], counts["E201"]) > 10, counts


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_thousands_of_settings_work_or_are_refused(here: Path) -> None:
    print(f"settings: {told(attempts(MANY))}")
