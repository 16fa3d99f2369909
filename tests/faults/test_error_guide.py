"""Every code is explained once, and command, page and README say the same of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.error_guide import ERRORS, GUIDE, OURS, Entry, page, table
from features.errors import FunnelcastError
from flows import cli, embedded

ROOT = Path(__file__).resolve().parents[2]


def kinds(base: type[FunnelcastError] = FunnelcastError) -> set[type[FunnelcastError]]:
    below = set(base.__subclasses__())
    return below.union(*(kinds(one) for one in below))


def test_every_error_of_ours_is_explained_with_its_code_name_and_exit_status() -> None:
    assert embedded.NoPrefectApi in kinds()  # it is declared away from the others
    declared = sorted((one.code, one.__name__, one.exit_code) for one in kinds())
    assert [(e.code, e.name, e.exit) for e in ERRORS] == declared
    assert len({entry.code for entry in GUIDE}) == len(GUIDE)


@pytest.mark.parametrize("entry", GUIDE, ids=lambda entry: entry.code)
def test_an_entry_says_what_stays_what_to_do_and_how_it_looks(entry: Entry) -> None:
    assert entry.example.startswith(f"{entry.code} ")
    assert entry.stays.endswith(".")
    assert entry.do.endswith(".")
    assert not entry.when.endswith(".")


def test_the_page_and_the_readme_are_made_from_the_table() -> None:
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == page()
    readme = (ROOT / "README.md").read_text("utf-8").splitlines()
    start = readme.index(table(())[0])
    rows = readme[start : readme.index("", start)]
    assert rows == table((*ERRORS, OURS))


def test_a_code_is_explained_in_any_case_and_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "e404"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("E404 SchemaDrift (exit 4)\n")
    assert "What to do: Deliver the column as its source declares it" in told
    assert cli.main(["explain", "schemadrift"]) == 0
    assert capsys.readouterr().out == told
    assert cli.main(["explain", "E404", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit"] == 4


def test_without_a_code_all_are_listed_and_an_unknown_one_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["explain"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [entry.code for entry in GUIDE]
    assert cli.main(["explain", "SchemaDrft"]) == 2
    assert "did you mean E404 SchemaDrift?" in capsys.readouterr().err


def test_the_module_makes_the_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.explain"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == page()
