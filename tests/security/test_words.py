"""Names and numbers that a user, a file or the environment gives: on a list, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from features import scenarios
from features.errors import FunnelcastError, UsageError
from features.log import DataPath
from features.store import Store
from features.tables import Partition, Table
from flows import cli, recipes
from flows.catalog import CatalogView
from flows.settings import Settings

DAY = date(2026, 3, 27)
#: What each would do if it reached SQL, a path or a terminal.
ATTACKS = [
    "x'; DROP TABLE scores; --",
    'x"; ATTACH \'/tmp/evil.db\' AS evil; --',
    "x) OR 1=1",
    "x/**/UNION/**/SELECT",
    "../../etc/passwd",
    "..",
    ".",
    "/etc/passwd",
    "a/../../b",
    "..\\..\\windows",
    "%2e%2e%2f",
    "~root",
    "$HOME",
    "$(touch evil)",
    "`touch evil`",
    "{day}",
    "a\x00b",
    "a\nb",
    "\x1b[2J",
    "\u202egpj",
    "\u0435smm",  # Cyrillic e
    "\uff45smm",  # full width e
    "esmm\u200b",  # zero width space
    "esmm ",
    "-rf",
    "--help",
    "*",
    "",
    "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
def test_no_name_of_ours_can_be_anything_but_a_name(attack: str, tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64())])
    for make in (
        lambda: Partition(DAY, (("line", attack),)),
        lambda: Partition(DAY, ((attack, "ple"),)),
        lambda: Table(attack, schema),
        lambda: Table("scores", pa.schema([(attack, pa.int64())])),
        lambda: Table("scores", schema, partition_by=("dt", attack)),
        lambda: Table("scores", schema).partition(DAY, line=attack),
        lambda: CatalogView(attack, Table("scores", schema)),
        lambda: Store(tmp_path).lease(attack),
        lambda: DataPath.parse(f"dt=2026-03-27/line={attack}/{'0' * 16}-00000-{'0' * 16}.parquet"),
        lambda: DataPath.parse(f"{attack}/dt=2026-03-27/{'0' * 16}-00000-{'0' * 16}.parquet"),
    ):
        with pytest.raises((ValueError, LookupError)):
            make()
    for find in (lambda: scenarios.get(attack), lambda: recipes.get("shop", attack)):
        with pytest.raises(UsageError):
            find()
    assert list(tmp_path.iterdir()) == []


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "run --date": lambda word: ["run", f"--date={word}"],
    "run --recipe": lambda word: ["run", "--date=2026-03-27", f"--recipe={word}"],
    "run --scenario": lambda word: ["run", "--date=2026-03-27", f"--scenario={word or 'none'}"],
    "run --config": lambda word: ["run", "--date=2026-03-27", f"--config={word or 'none'}"],
    "backfill": lambda word: ["backfill", "--", word, "2026-03-27"],
    "features --view": lambda word: ["features", f"--view={word}"],
    "features --set": lambda word: ["features", f"--set={word or 'none'}"],
    "features --line": lambda word: ["features", f"--line={word}"],
    "simulate --set": lambda word: ["simulate", f"--set={word}=1"],
    "simulate --start": lambda word: ["simulate", f"--start={word}"],
    "explain": lambda word: ["explain", "--", word or "none"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_no_word_of_the_command_line_does_anything_but_name(
    elsewhere: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    for attack in ATTACKS[sorted(COMMANDS).index(command) % 4 :: 4]:  # each word meets some of the commands
        assert cli.main(COMMANDS[command](attack)) == 2, attack
        told = capfd.readouterr()
        (line,) = told.err.splitlines()
        assert line.startswith("E201 UsageError: ")
        assert line.isprintable()
        assert told.out == ""
    assert {path.name for path in elsewhere.rglob("*")} <= {"warehouse", "kuairand"}


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-27'; DROP TABLE samples; --", "2026-03-27/../../x", "2026-03-27\x00", "２０２６-０３-２７",
        "٢٠٢٦-٠٣-٢٧", "2026-03-27 OR 1=1", "2026-02-30", "0000-00-00", "99999-01-01", "today", "{day}",
    ],
)  # fmt: skip
def test_a_date_is_a_date(elsewhere: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert cli.main(["run", f"--date={text}"]) == 2
    assert capsys.readouterr().err.startswith("E201 UsageError: date: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('warehouse = "s3://ann:hunter2@bucket/x"', "key 'warehouse': a URL"),
        ('logs.shop = "https://ann:hunter2@host/logs"', "key 'logs': shop: a URL"),
        ('warehouse = "file:///etc"', "a URL"),
        ('warehouse = "a\\u0000b"', "NUL"),
        ('warehouse = "~no-such-user-hunter2/x"', "names no user"),
        ('memory_limit = "\u0664GB"', "not an amount of memory"),  # an Arabic 4, which \d would take
        ('memory_limit = "4GB\'; SET enable_external_access = true; --"', "not an amount of memory"),
        ('memory_limit = "99999999999999999999999TB"', "not an amount of memory"),
        ("threads = 1000000000000000000000000000000", "key 'threads'"),
        ('time_zone = "../../../../etc/passwd"', "not an IANA time zone"),
        ('time_zone = "/etc/passwd"', "not an IANA time zone"),
        ('time_zone = "UTC\\u0000"', "not an IANA time zone"),
    ],
    ids=ascii,
)
def test_settings_that_mean_something_else_are_refused_without_repeating_them(
    elsewhere: Path, text: str, said: str
) -> None:
    (elsewhere / "funnelcast.toml").write_text(text, "utf-8")
    with pytest.raises(UsageError) as caught:
        Settings.load()
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_url_of_the_environment_is_refused_too(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", "s3://ann:hunter2@bucket/x")
    with pytest.raises(UsageError, match="FUNNELCAST_WAREHOUSE, key 'warehouse': a URL") as caught:
        Settings.load()
    assert "hunter2" not in str(caught.value)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["w*", "w?", "[w]", "{a,b}", "dt=1", "%2e"])
def test_a_warehouse_that_readers_take_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FunnelcastError, match=r"E503 .*plainer folder"):
        Store(tmp_path / name)
