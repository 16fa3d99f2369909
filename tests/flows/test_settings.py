"""Settings: environment over file over default, paths that mean one place, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from features.errors import UsageError
from flows.house import House
from flows.settings import Settings


def write(folder: Path, text: str, name: str = "funnelcast.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_defaults_lie_in_the_current_folder(elsewhere: Path) -> None:
    settings = Settings.load()
    assert settings.warehouse == elsewhere / "warehouse"
    assert settings.logs == {
        "kuairand": elsewhere / "data" / "kuairand",
        "simulated": elsewhere / "simulated",
    }
    assert (settings.scenario, settings.recipes, settings.time_zone) == ("kuairand", (), None)
    assert settings.threads >= 1


def test_the_environment_wins_over_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(elsewhere, 'scenario = "shop"\nmemory_limit = "2GB"\nrecipes = ["esmm"]\n')
    monkeypatch.setenv("FUNNELCAST_MEMORY_LIMIT", "900MiB")
    monkeypatch.setenv("FUNNELCAST_RECIPES", "ple, shared_bottom")
    settings = Settings.load()
    assert settings.scenario == "shop"
    assert settings.memory_limit == "900MiB"
    assert settings.recipes == ("ple", "shared_bottom")


def test_paths_of_a_file_are_meant_from_its_folder(elsewhere: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "etc", 'warehouse = "../store"\n[logs]\nshop = "raw"\n')
    settings = Settings.load(file)
    assert settings.warehouse == tmp_path / "etc" / ".." / "store"
    assert settings.logs["shop"] == tmp_path / "etc" / "raw"
    assert settings.logs["kuairand"] == tmp_path / "etc" / "data" / "kuairand"


def test_a_file_that_leaves_the_warehouse_out_still_anchors_it(elsewhere: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "etc", "threads = 1\n", "other.toml")
    assert Settings.load(file).warehouse == tmp_path / "etc" / "warehouse"


def test_the_file_may_be_named_by_the_environment(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNNELCAST_CONFIG", str(write(tmp_path / "etc", "threads = 3\n")))
    assert Settings.load().threads == 3
    assert Settings.load(write(tmp_path / "nearer", "threads = 5\n")).threads == 5


def test_one_log_root_from_the_environment_leaves_the_others(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNNELCAST_LOGS__SHOP", "/srv/shop")
    assert Settings.load().logs == {
        "kuairand": elsewhere / "data" / "kuairand",
        "simulated": elsewhere / "simulated",
        "shop": Path("/srv/shop"),
    }


@pytest.mark.parametrize(
    ("memory", "threads", "workers", "of_each"),
    [("4GB", 8, 4, ("1000000000B", 2)), ("1KiB", 2, 3, ("341B", 1)), ("2B", 1, 9, ("1B", 1))],
)
def test_workers_share_memory_and_threads(
    elsewhere: Path, memory: str, threads: int, workers: int, of_each: tuple[str, int]
) -> None:
    house = House.open(Settings(memory_limit=memory, threads=threads))
    told = house.shared(workers).limits
    assert (told.memory, told.threads) == of_each
    assert (house.limits.memory, house.limits.threads) == (memory, threads)


def test_settings_cannot_be_changed(elsewhere: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.load().threads = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('warehous = "x"', r"unknown key 'warehous'\. Next: write 'warehouse'\."),
        ('zzz = "x"', r"unknown key 'zzz'\. Next: use one of warehouse, logs,"),
        ("threads = 0", r"key 'threads': Input should be greater than or equal to 1"),
        ('memory_limit = "lots"', r"key 'memory_limit': not an amount of memory"),
        ('time_zone = "Mars/Base"', r"key 'time_zone': not an IANA time zone"),
        ('logs = "raw"', r"key 'logs': Input should be a valid dictionary"),
        ("logs.shop = 3", r"key 'logs\.shop': Input is not a valid path"),
        ("threads = \n", r"not TOML: .*line 1"),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_key(elsewhere: Path, text: str, found: str) -> None:
    write(elsewhere, text)
    with pytest.raises(UsageError, match=r"^E201 UsageError: funnelcast\.toml.*" + found) as caught:
        Settings.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("FUNNELCAST_WAREHOSUE", "x", "unknown key 'warehosue'. Next: write 'warehouse'."),
        ("FUNNELCAST_THREADS", "many", "FUNNELCAST_THREADS, key 'threads': Input should be a valid integer"),
        ("FUNNELCAST_LOGS", "{", "give a JSON value"),
        ("FUNNELCAST_CONFIG", "/no/such.toml", "/no/such.toml: no such settings file"),
    ],
)
def test_a_bad_variable_is_named(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, found: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as caught:
        Settings.load()
    assert found in str(caught.value)


@pytest.mark.parametrize(("variable", "value"), [("HOME", "/srv/funnelcast"), ("KERNELS", "off")])
def test_what_others_read_is_not_a_setting(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"FUNNELCAST_{variable}", value)
    assert Settings.load().scenario == "kuairand"
