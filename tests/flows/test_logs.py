"""Log lines: plain, coloured or JSON; and no secret in any of them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flows import logs

ROOT = logging.getLogger("funnelcast")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    before = (list(ROOT.handlers), ROOT.level, ROOT.propagate)
    yield
    ROOT.handlers[:], ROOT.level, ROOT.propagate = before[0], before[1], before[2]


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING", "OPENAI_APIKEY", "client_secret", "AZURE_CREDENTIALS", "MY_KEYS",
    ],
)  # fmt: skip
def test_values_of_secret_variables_are_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "wJalrXUtnFEMI/K7MDENG")
    assert logs.redact("sent wJalrXUtnFEMI/K7MDENG to s3") == "sent *** to s3"
    assert logs.redact("GET /x?sig=wJalrXUtnFEMI%2FK7MDENG") == "GET /x?sig=***"


@pytest.mark.parametrize(
    "name", ["KEYBOARD", "MONKEYS_HOME", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "PATH"]
)
def test_values_of_other_variables_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "quite-ordinary")
    assert logs.redact("a quite-ordinary day") == "a quite-ordinary day"


def test_short_and_boolean_values_do_not_blank_out_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_API_KEY", "true")
    monkeypatch.setenv("TOKEN", "1")
    assert logs.redact("day 1 of 9 is true") == "day 1 of 9 is true"


def test_the_password_alone_of_an_auth_string_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2!")
    assert logs.redact("401 for hunter2!") == "401 for ***"


def test_every_line_of_a_private_key_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_PRIVATE_KEY", "-----BEGIN-----\nMIIEowIBAAKCAQEA\n-----END-----\n")
    assert "MIIEow" not in logs.redact("cannot parse MIIEowIBAAKCAQEA")
    assert "MIIEow" not in logs.redact(repr({"key": "-----BEGIN-----\nMIIEowIBAAKCAQEA\n-----END-----\n"}))


def test_a_secret_inside_a_longer_secret_leaves_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcd")
    monkeypatch.setenv("B_TOKEN", "abcdefgh")
    assert logs.redact("abcdefgh") == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+asyncpg://ann:p%40ss@db:5432/x", "postgresql+asyncpg://***@db:5432/x"),
        ("postgres://ann:pa/ss@db/x failed", "postgres://***@db/x failed"),
        ("https://ghp_abcdef@github.com/a/b", "https://***@github.com/a/b"),
        ("('https://u:p@h/1', 'https://u:p@h/2')", "('https://***@h/1', 'https://***@h/2')"),
        ("s3://bucket/dt=2022-04-25/part-0.parquet", "s3://bucket/dt=2022-04-25/part-0.parquet"),
        ("http://127.0.0.1:4200/api and ann@example.org", "http://127.0.0.1:4200/api and ann@example.org"),
    ],
)
def test_logins_in_urls_are_hidden(text: str, shown: str) -> None:
    assert logs.redact(text) == shown


def test_no_secret_in_message_arguments_extras_or_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "sesame-open")
    logs.configure(as_json=True)
    try:
        raise OSError("cannot reach s3://ann:hunter2@host with sesame-open")
    except OSError:
        logging.getLogger("funnelcast.test").exception(
            "password %s", "sesame-open", extra={"url": "https://u:hunter2@h", "args_seen": ["sesame-open"]}
        )
    shown = capsys.readouterr().err
    assert "sesame-open" not in shown
    assert "hunter2" not in shown
    line = json.loads(shown)
    assert line["message"] == "password ***"
    assert line["url"] == "https://***@h"
    assert "OSError: cannot reach s3://***@host with ***" in line["exception"]


def test_handlers_of_other_libraries_are_guarded_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE_TOKEN", "sesame-open")
    other = logging.getLogger("some.library")
    handler = logging.StreamHandler(sys.stderr)
    other.addHandler(handler)
    try:
        logs.configure()
        logs.guard()
        other.error("refused: %s", "sesame-open")
    finally:
        other.removeHandler(handler)
    assert capsys.readouterr().err == "refused: ***\n"
    assert len(handler.filters) == 1


def test_a_line_whose_arguments_do_not_fit_is_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("funnelcast.test").info("%d rows", "many")
    assert "%d rows ('many',)" in capsys.readouterr().err


def test_plain_lines_carry_an_instant_with_its_offset(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()
    logging.getLogger("funnelcast.test").info("read 3 rows")
    logging.getLogger("funnelcast.test").debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    stamp, level, text = line.split(" ", 2)
    assert (level, text) == ("INFO", "read 3 rows")
    assert len(stamp) == len("2022-04-25T06:15:00+0800")


def test_a_terminal_gets_short_lines_and_no_colour_under_no_color() -> None:
    """A real pseudo-terminal, since rich decides by it."""
    pytest.importorskip("pty")
    line = "import logging; from flows import logs; logs.configure(); "
    line += "logging.getLogger('funnelcast.x').info('read 3 rows [bold]')"
    shown = subprocess.run(
        [sys.executable, "-c", f"import pty, sys; pty.spawn([sys.executable, '-c', {line!r}])"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "PYTHONPATH": ".", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
    ).stdout
    assert "read 3 rows [bold]" in shown
    assert "INFO" not in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", shown)
