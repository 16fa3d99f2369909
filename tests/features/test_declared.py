"""What follows from a declaration is made once for it, and anew for another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from features.declared import once_each
from features.scenarios.shop import SCENARIO
from features.schemas import samples, view
from features.validation.tables import contract
from features.versions import view_version


@dataclass(frozen=True)
class Declared:
    """Equal ones hold a list, so they have no hash of their own."""

    names: list[str]


@pytest.fixture
def asked() -> list[tuple[Declared, ...]]:
    return []


def test_it_is_made_once_for_every_combination_by_what_it_is_not_by_what_it_equals(
    asked: list[tuple[Declared, ...]],
) -> None:
    @once_each
    def joined(*declared: Declared) -> str:
        """Names, side by side."""
        asked.append(declared)
        return " ".join(name for one in declared for name in one.names)

    one, equal = Declared(["a"]), Declared(["a"])
    assert one == equal
    assert joined(one) is joined(one)
    assert joined(one, equal) == joined(equal, one) == "a a"
    assert joined(equal) == "a"
    assert [len(declared) for declared in asked] == [1, 2, 2, 1]
    assert asked[1][0] is asked[2][1] is one
    assert joined.__doc__ == "Names, side by side."


def test_texts_are_the_same_by_what_they_say(asked: list[tuple[Declared, ...]]) -> None:
    @once_each
    def told(declared: Declared, text: str) -> str:
        asked.append((declared,))
        return f"{declared.names} {text}"

    one = Declared(["a"])
    assert [told(one, "".join(parts)) for parts in (("x", "y"), ("x", "y"), ("y", "x"))] == [
        "['a'] xy",
        "['a'] xy",
        "['a'] yx",
    ]
    assert len(asked) == 2


def test_what_it_refuses_is_refused_every_time(asked: list[tuple[Declared, ...]]) -> None:
    @once_each
    def refused(declared: Declared) -> str:
        asked.append((declared,))
        raise ValueError("no names")

    one = Declared([])
    for _ in range(2):
        with pytest.raises(ValueError, match="no names"):
            refused(one)
    assert len(asked) == 2


def test_by_name_it_is_made_as_ever(asked: list[tuple[Declared, ...]]) -> None:
    @once_each
    def told(declared: Declared) -> int:
        asked.append((declared,))
        return len(declared.names)

    one = Declared(["a"])
    assert told(declared=one) == told(one) == told(one) == 1
    assert len(asked) == 2


def test_a_scenario_that_was_changed_has_tables_contracts_and_versions_of_its_own() -> None:
    assert samples(SCENARIO) is samples(SCENARIO)
    first, *others = SCENARIO.views
    *kept, gone = first.features
    renamed = replace(gone, name="another", description="by another name")
    other = replace(first, features=(*kept, renamed))
    changed = replace(SCENARIO, views=(other, *others), on_demand=())
    for table in (samples(changed), view(other, changed)):
        assert "another" in table.schema.names
        assert gone.name not in table.schema.names
    for table in (samples(SCENARIO), view(first, SCENARIO)):
        assert gone.name in table.schema.names
        assert "another" not in table.schema.names
    ruled, anew = (
        contract(samples(scenario), scenario).schema.column_names() for scenario in (SCENARIO, changed)
    )
    assert (gone.name in ruled, gone.name in anew) == (True, False)
    assert ("another" in ruled, "another" in anew) == (False, True)
    assert view_version(SCENARIO, first) != view_version(changed, other)
