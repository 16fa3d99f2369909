"""Which version stands after decisions of the gate and by hand, on versions without training."""

from __future__ import annotations

import json
import random
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from model_rows import add_model
from shop_house import open_house

from features.bookkeeping import MODELS
from features.errors import BadWarehouse, Busy, UsageError
from features.promotion import PROMOTIONS
from flows import cli
from flows.by_hand import promote, rollback
from flows.house import House
from flows.maintain import Keep, maintained
from flows.stages.decisions import Entry, enter, entries
from flows.stages.standing import standing_after
from flows.stages.version import parent_of
from models.manifest import TENSORS

LINE = "esmm"
DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(6)]
NOW = datetime(2026, 1, 20)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return open_house(tmp_path)


def train(house: House, day: date, seed: str = "") -> str:
    """A version of a day; its name."""
    return add_model(house, day, {"n": f"{day}{seed}"}, line=LINE).name


def gate(house: House, day: date, version: str, decision: str) -> None:
    """What the gate enters: a version that it keeps out leaves what stood before."""
    champion = parent_of(house, LINE, day)
    before = (champion.version, champion.day) if champion else (None, None)
    stands, since = (version, day) if decision == "promoted" else before
    told = {"day": day, "line": LINE, "nth": len(entries(house, LINE, day)), "model_version": version}
    told |= {"decision": decision, "stands": stands, "stands_day": since}
    enter(house, day, [Entry(**told, decided_by="gate", decided_at=NOW, reason="a check")])  # type: ignore[arg-type]


def days(house: House, *decisions: str) -> list[str]:
    """A version a day with these decisions; their names."""
    names = [train(house, day) for day, _ in zip(DAYS, decisions, strict=False)]
    for day, name, decision in zip(DAYS, names, decisions, strict=False):
        gate(house, day, name, decision)
    return names


def stands(house: House, day: date = DAYS[-1]) -> str | None:
    found = standing_after(house, LINE, day)
    return None if found is None else found.version


def test_the_last_version_that_was_promoted_stands(house: House) -> None:
    names = days(house, "promoted", "rejected", "promoted", "insufficient", "rejected")
    assert [stands(house, day) for day in DAYS[:5]] == [names[0], names[0], names[2], names[2], names[2]]
    assert parent_of(house, LINE, DAYS[0]) is None


def test_any_sequence_of_decisions_stands_as_a_loop_over_them_says(tmp_path: Path) -> None:
    chance = random.Random(3)
    for n in range(3):
        house = open_house(tmp_path / str(n))
        decisions = [chance.choice(["promoted", "rejected"]) for _ in DAYS]
        names = days(house, *decisions)
        standing = None
        for day, name, decision in zip(DAYS, names, decisions, strict=True):
            before = parent_of(house, LINE, day)
            assert (None if before is None else before.version) == standing
            standing = name if decision == "promoted" else standing
            assert stands(house, day) == standing


def test_a_version_that_is_promoted_by_hand_stands_and_says_who_and_why(house: House) -> None:
    names = days(house, "promoted", "rejected")
    changed = promote(house, LINE, day=None, version=None, reason=" seen by all ", by="ada")
    assert (changed.before and changed.before.version, changed.after.version) == (names[0], names[1])
    assert stands(house) == names[1]
    entry = entries(house, LINE, DAYS[1])[-1]
    assert (entry.nth, entry.decision, entry.decided_by, entry.reason) == (
        1, "promoted_by_hand", "ada", "seen by all",
    )  # fmt: skip
    with pytest.raises(UsageError, match="stands after 2026-01-06 already"):
        promote(house, LINE, day=DAYS[1], version=None, reason="again", by="ada")
    gate(house, DAYS[1], names[1], "rejected")  # other limits: what somebody decided holds
    assert stands(house) == names[1]


def test_a_rollback_holds_from_the_newest_day_on_and_leaves_the_days_before_alone(house: House) -> None:
    names = days(house, "promoted", "rejected", "promoted", "promoted")
    parents = [parent_of(house, LINE, day) for day in DAYS[:4]]
    rollback(house, LINE, to=None, reason="worse", by="ada")
    assert stands(house, DAYS[3]) == names[2]
    assert [parent_of(house, LINE, day) for day in DAYS[:4]] == parents
    rollback(house, LINE, to=None, reason="worse still", by="ada")
    assert stands(house, DAYS[3]) == names[0]  # the second one never stood
    with pytest.raises(UsageError, match="no version stood before"):
        rollback(house, LINE, to=None, reason="and on", by="ada")
    rollback(house, LINE, to=names[2][:10], reason="back", by="ada")
    assert stands(house, DAYS[3]) == names[2]
    assert [e.decision for e in entries(house, LINE, DAYS[3])] == ["promoted", *["rolled_back"] * 3]
    # The chain branches: the next day trains from what was restored.
    fifth = train(house, DAYS[4])
    restored = parent_of(house, LINE, DAYS[4])
    assert restored is not None
    assert restored.version == names[2]
    gate(house, DAYS[4], fifth, "promoted")
    assert stands(house) == fifth


def test_what_cannot_be_gone_back_to_is_refused_with_the_next_step(house: House) -> None:
    names = days(house, "promoted", "rejected", "promoted")
    with pytest.raises(UsageError, match=r"never stood: it was rejected .*promote esmm --day 2026-01-06"):
        rollback(house, LINE, to=names[1], reason="x", by="ada")
    with pytest.raises(UsageError, match="stands after 2026-01-07 already"):
        rollback(house, LINE, to=names[2], reason="x", by="ada")
    with pytest.raises(UsageError, match="no version begins with 'zz'"):
        rollback(house, LINE, to="zz", reason="x", by="ada")
    with pytest.raises(UsageError, match="no version begins with ''"):
        rollback(house, LINE, to="", reason="x", by="ada")
    with pytest.raises(UsageError, match=r"line 'nobody'.*choose one of esmm"):
        rollback(house, "nobody", to=None, reason="x", by="ada")
    with pytest.raises(UsageError, match="no version of 2026-02-01"):
        promote(house, LINE, day=date(2026, 2, 1), version=None, reason="x", by="ada")
    with pytest.raises(UsageError, match="both --day and --version"):
        promote(house, LINE, day=DAYS[1], version=names[1], reason="x", by="ada")
    with pytest.raises(UsageError, match="--reason"):
        rollback(house, LINE, to=None, reason="  ", by="ada")
    with house.store.lease("run"), pytest.raises(Busy):
        rollback(house, LINE, to=None, reason="x", by="ada")
    (house.store.root / "checkpoints" / LINE / names[0] / TENSORS).unlink()
    with pytest.raises(BadWarehouse, match="weights were removed"):
        rollback(house, LINE, to=None, reason="x", by="ada")
    assert stands(house) == names[2]
    assert all(len(entries(house, LINE, day)) == 1 for day in DAYS[:3])


def test_a_decision_is_about_the_version_that_its_day_had(house: House) -> None:
    names = days(house, "promoted", "promoted")
    rollback(house, LINE, to=None, reason="worse", by="ada")
    assert stands(house) == names[0]
    anew = train(house, DAYS[1], "delivered again")
    assert stands(house) == names[0]  # not judged yet: what stood before does
    gate(house, DAYS[1], anew, "promoted")
    assert stands(house) == anew


def test_when_the_version_that_was_gone_back_to_is_no_more_the_one_before_it_stands(house: House) -> None:
    names = days(house, "promoted", "promoted", "promoted")
    rollback(house, LINE, to=None, reason="worse", by="ada")
    assert stands(house) == names[1]
    train(house, DAYS[1], "delivered again")
    assert stands(house) == names[0]


def test_upkeep_keeps_the_weights_of_who_stands_however_old(house: House) -> None:
    names = days(house, "promoted", *["rejected"] * 5)
    old = datetime(2027, 1, 1)
    gone = maintained(house, Keep(days=2, weeks=0), dry_run=True, now=old).removed
    assert {one.path.parent.name for one in gone if one.path.name == TENSORS} == set(names[1:4])


def test_the_commands_tell_what_stands_what_stood_and_what_to_run(
    house: House, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = days(house, "promoted", "rejected")
    monkeypatch.setenv("FUNNELCAST_WAREHOUSE", str(house.settings.warehouse))
    monkeypatch.setenv("LOGNAME", "ada")
    where = ("--scenario", "shop", "--json")
    assert cli.main(["promote", LINE, "--version", names[1][:9], "--reason", "late labels", *where]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "line": LINE,
        "day": "2026-01-06",
        "decision": "promoted_by_hand",
        "stands": {"version": names[1], "day": "2026-01-06"},
        "stood": {"version": names[0], "day": "2026-01-05"},
        "decided_by": "ada",
        "reason": "late labels",
        "next": "funnelcast backfill 2026-01-06 2026-01-06 --recipe esmm --scenario shop",
    }
    assert cli.main(["rollback", LINE, "--reason", "no", "--scenario", "shop"]) == 0
    shown = capsys.readouterr().out
    assert f"after 2026-01-06 {names[0][:8]} of 2026-01-05 stands; it was {names[1][:8]}" in shown
    query = "SELECT decision, decided_by, reason FROM promotions WHERE nth > 0 ORDER BY nth"
    assert cli.main(["sql", query, *where]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"decision": "promoted_by_hand", "decided_by": "ada", "reason": "late labels"},
        {"decision": "rolled_back", "decided_by": "ada", "reason": "no"},
    ]
    assert cli.main(["promote", LINE, "--reason", "x", "--day", "soon", *where]) == 2
    assert cli.main(["rollback", LINE, *where]) == 2  # no reason
    assert len(house.store.days(MODELS)) == len(house.store.days(PROMOTIONS)) == 2
