"""The 56 cases of the fault list: each has a test with its number in the name, or is open for a reason."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
#: A number at the start of a test's name, after another one, or at the start of the name of a parameter.
_NUMBERED = re.compile(r'(?:def test_|")((?:F\d\d[_ ])+)')
CASES = {f"F{n:02}" for n in range(1, 57)}
OPEN: dict[str, str] = {}


def test_every_case_of_the_fault_list_has_its_number_in_the_name_of_a_test_or_is_open() -> None:
    texts = (file.read_text("utf-8") for file in TESTS.rglob("test_*.py") if file != Path(__file__))
    found = {
        number
        for text in texts
        for numbers in _NUMBERED.findall(text)
        for number in re.findall(r"F\d\d", numbers)
    }
    assert found <= CASES
    assert found | OPEN.keys() == CASES
    assert found & OPEN.keys() == set()
