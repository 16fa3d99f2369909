r"""What the deliverer of the logs wrote reaches no terminal and no log as anything but text."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from features.errors import SchemaDrift
from flows import cli, logs, progress, registry_report, report
from flows.harmless import harmless, json_line
from flows.query import Answer
from flows.stages.record import StageRecord

#: Clears the screen, retitles the window, answers for the user, goes back and overwrites, C1 forms of both, a
#: forged line of the log, a link of rich, a mark of direction, what HTML and Markdown would obey.
EVIL = [
    "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x1b[6n", "good\rbad", "a\x08\x08b", "\x9b2J", "\x9d0;owned\x9c",
    "x\n2026-11-28T00:00:00+0000 INFO all is well", "\u2028forged", "\u202egpj.exe", "\ufeff\u200b",
    "\x7f\x00",
]  # fmt: skip
MARKUP = [
    "[red]x[/red]",
    "[link=http://evil]x[/link]",
    "[/]",
    "<script>alert(1)</script>",
    "![](http://evil)",
]
OBEYED = {chr(n) for n in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2028, 0xFEFF, 0x200B)}
ROOT = logging.getLogger("funnelcast")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    before = (list(ROOT.handlers), ROOT.level, ROOT.propagate)
    yield
    ROOT.handlers[:], ROOT.level, ROOT.propagate = before[0], before[1], before[2]


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
def test_it_is_written_out_and_can_be_read_back(evil: str) -> None:
    shown = harmless(evil)
    assert not OBEYED & set(shown)
    assert "\n" not in shown
    assert shown.encode("ascii", "strict").decode("unicode_escape") == evil
    line = json_line({"name": evil})
    assert not OBEYED & set(line)
    assert "\n" not in line
    assert json.loads(line) == {"name": evil}


@pytest.mark.parametrize("text", ["день", "一二\u3000三", "👩\u200d🚀", "a\u00a0b", "ß|é", "a\tb", *MARKUP])
def test_what_people_write_stays(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("logger", ["funnelcast.day", "prefect_like.library"])
def test_no_line_of_the_log_is_obeyed_or_forged(
    capsys: pytest.CaptureFixture[str], as_json: bool, logger: str
) -> None:
    logs.configure(as_json=as_json)
    handler = ROOT.handlers[-1]
    other = logging.getLogger(logger)
    theirs = other.name.startswith("prefect")
    if theirs:
        other.addHandler(handler)
    try:
        for evil in (*EVIL, *MARKUP):
            try:
                raise ValueError(evil)
            except ValueError:
                other.warning("not a day: %s", evil, exc_info=True, extra={"file": evil})
    finally:
        if theirs:
            other.removeHandler(handler)
    shown = capsys.readouterr().err
    assert not OBEYED & set(shown)
    if as_json:
        assert len([json.loads(line) for line in shown.splitlines()]) == len(EVIL) + len(MARKUP)
    elif not theirs:
        forged = [line for line in shown.splitlines() if line.startswith("2026-11-28T00:00:00+0000 INFO")]
        assert len(forged) == 1  # the one in the traceback, which is told line by line
    assert all(markup in shown for markup in MARKUP)


@pytest.mark.parametrize("words", [["check"], ["check", "--json"], ["check", "--debug"]])
def test_no_error_is_obeyed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    for evil in (*EVIL, *MARKUP):

        def fail(*_: object, evil: str = evil) -> None:
            raise SchemaDrift(f"/logs/{evil}.parquet", f"missing; did {evil} take its place?", "ask")

        monkeypatch.setattr("flows.house.House.open", fail)
        assert cli.main(words) == 4
        shown = capsys.readouterr().err
        assert not OBEYED & set(shown)
        last = shown.splitlines()[-1]
        assert "E404 SchemaDrift: /logs/" in last
        if "--json" in words:
            assert harmless(evil) in json.loads(last)["error"]


def test_a_file_that_is_named_so_is_told_so(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the log root through the command to the terminal, with nothing put in its place."""
    folder = elsewhere / "raw" / "exposure"
    for name in ("dt=2026-03-27", "dt=\x1b]0;owned\x07"):
        (folder / name).mkdir(parents=True)
        (folder / name / "part\x1b[2J\r*.parquet").write_bytes(b"no Parquet")
    (elsewhere / "funnelcast.toml").write_text('scenario = "shop"\nlogs.shop = "raw"\n', "utf-8")
    assert cli.main(["status"]) == 4
    *before, last = capsys.readouterr().err.splitlines()
    assert any("not a day: exposure/dt=\\x1b]0;owned\\x07" in line for line in before)
    assert last.startswith("E403 CorruptInput: ")
    assert "part\\x1b[2J\\r*.parquet" in last
    assert all(line.isprintable() for line in (*before, last))


@pytest.mark.parametrize("form", ["table", "json"])
def test_no_answer_is_obeyed_or_taken_for_markup(capsys: pytest.CaptureFixture[str], form: str) -> None:
    for evil in (*EVIL, *MARKUP):
        report.answer(Answer((evil,), [(evil,), ({evil: [evil]},)]), form, 9)
        shown = capsys.readouterr().out
        assert not OBEYED & set(shown)
        if evil in MARKUP:
            assert evil in shown


def test_no_progress_line_is_taken_for_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar's texts are markup to rich; a reason code or a part that looks like it must not break it."""
    told = io.StringIO()
    monkeypatch.setattr(logs, "terminal", lambda: Console(file=told, force_terminal=True, width=200))
    bar = progress._Bar(1)
    with bar.progress:
        for evil in MARKUP:
            record = logging.makeLogRecord({"stage": evil, "name": "funnelcast.day"})
            bar.emit(record)
            bar.progress.refresh()
    assert all(evil in told.getvalue() for evil in MARKUP)
    line = progress.line(
        StageRecord(
            stage="read", table="t", day=date(2026, 1, 5), key="0" * 16, repeated=False, rows_in=1,
            rows_out=0, quarantined={"\x1b[2J": 1}, seconds=0.1,
        )
    )  # fmt: skip
    assert "\x1b" not in harmless(line)


def test_no_sentence_of_a_report_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    for say in (report._say, registry_report._say):
        for evil in (*EVIL, *MARKUP):
            say(f"Blocked: {evil}")
            shown = capsys.readouterr().out
            assert not OBEYED & set(shown)
            assert "Blocked: " in shown


def test_csv_is_what_the_tables_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV is for programs and complete: a reader gets each value back; what shows it has to look after it."""
    rows = [(evil,) for evil in (*EVIL, *MARKUP, "=1+1", '"', ",")]
    report.answer(Answer(("a",), rows), "csv", 9)
    told = capsys.readouterr().out
    assert list(csv.reader(io.StringIO(told, newline="")))[1:] == [list(row) for row in rows]
