"""Stage "gate": judge the day's version of every line, beside the one that stands, before it scores."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial

import polars as pl

from features.errors import GateBlocked, MissingStage
from features.fingerprint import fingerprint
from features.promotion import GATE
from flows import recipes
from flows.gate import Check, decide, judge, reason
from flows.house import House
from flows.recipes import Recipe
from flows.stages.decisions import THE_GATE, Entry, decision_of, enter, entries
from flows.stages.judged import evidence, judged_days
from flows.stages.keep import keep
from flows.stages.publish import refresh_catalogue
from flows.stages.record import StageRecord
from flows.stages.sample import plan_sample
from flows.stages.settle import Built, Plan, code, live, now
from flows.stages.standing import standing_after
from flows.stages.version import Version, parent_of, version_of
from models.machine import prepare

STAGE = "gate"
#: How many checks a warning tells; the table has all.
_TOLD = 3
_READS = (
    "features/encode.py",
    "features/encodings.py",
    "features/hashing.py",
    "features/id_lookup.py",
    "features/batches.py",
    "features/labels.py",
    "features/validation/drift.py",
    "features/validation/thinning.py",
)
_CODE = (
    "flows/gate.py",
    "flows/limits.py",
    "flows/stages/gate.py",
    "flows/stages/judged.py",
    "flows/stages/unlearned.py",
    "models/metrics",
    "models/score.py",
    *_READS,
)
log = logging.getLogger("funnelcast.gate")


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Judge the day's version of every line and enter the decisions; a version that is kept out stays.

    Raises:
        MissingStage: a line has no version of the day.
        GateBlocked: a version was kept out and its recipe says ``refuse``, or no version stood before it; all
            was judged and entered, and nothing is published for the next day.
    """
    prepare()
    chosen = [recipes.get(house.scenario.name, name) for name in lines]
    plans = [plan_gate(house, day, recipe) for recipe in chosen]
    todo = [r for r, plan in zip(chosen, plans, strict=True) if live(house.store, plan) is None]
    # one thread per line beats several inside one line's small products
    with ThreadPoolExecutor(max_workers=house.settings.threads) as pool:
        built = dict(
            zip((r.name for r in todo), pool.map(lambda r: _judge(house, day, r), todo), strict=True)
        )
    records = [keep(house, plan, partial(built.__getitem__, str(plan.part))) for plan in plans]
    told = zip(plans, records, strict=True)
    enter(house, day, [entry for plan, record in told if (entry := _new(house, day, plan, record))])
    for record in records:
        if not record.repeated:
            _tell(record)
    _refuse(house, day, chosen)
    return tuple(records)


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the version of some line is not judged as its recipe says, or the decision is not entered."""
    for name in lines:
        plan = plan_gate(house, day, recipes.get(house.scenario.name, name))
        if live(house.store, plan) is None or _entered(house, day, plan) is None:
            return True
    return False


def plan_gate(house: House, day: date, recipe: Recipe) -> Plan:
    """What a judgement depends on: both versions, the rows, the limits and the code.

    Raises:
        MissingStage: the line has no version of the day.
    """
    version, champion = _version(house, day, recipe.name), parent_of(house, recipe.name, day)
    limits = {name: value for name, value in asdict(recipe.gate).items() if name != "refuse"}
    inputs = {
        "model": version.version,
        "champion": champion.version if champion else "none",
        "limits": fingerprint(limits),
        "code": code(*_CODE),
        **{
            f"samples {known}": plan_sample(house, known, day).key
            for known in judged_days(house, day, champion)
        },
    }
    return Plan(stage=STAGE, table=GATE, day=day, part=recipe.name, inputs=inputs)


def _judge(house: House, day: date, recipe: Recipe) -> Built:
    version, champion = _version(house, day, recipe.name), parent_of(house, recipe.name, day)
    found = evidence(house, recipe, champion, version, recipe.gate)
    checks = judge(found, recipe.gate)
    decision = decide(checks, baseline=champion is not None)
    rows = [
        {
            "model_version": version.version,
            "champion_version": champion.version if champion else None,
            **asdict(check),
        }
        for check in checks
    ]
    notes: dict[str, object] = {
        "decision": decision,
        "reason": reason(checks, decision, baseline=champion is not None),
        "warnings": _warnings(checks),
        "scored": found.scored,
    }
    if champion is not None:
        notes["champion"] = {"version": champion.version, "day": champion.day.isoformat()}
    types = pl.DataFrame(GATE.schema.empty_table()).schema
    return Built(rows=pl.DataFrame(rows, schema=types), notes=notes)


def _warnings(checks: tuple[Check, ...]) -> list[str]:
    told = [str(check) for check in checks if check.outcome == "warned"]
    return [*told[:_TOLD], *([f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else [])]


def _new(house: House, day: date, plan: Plan, record: StageRecord) -> Entry | None:
    """The gate's decision as it is entered; ``None`` if it is there already."""
    if _entered(house, day, plan) is not None:
        return None
    line = str(plan.part)
    version, champion = _version(house, day, line), parent_of(house, line, day)
    decision = str(record.notes["decision"])
    stands = version if decision == "promoted" else champion
    return Entry(
        day=day,
        line=line,
        nth=len(entries(house, line, day)),
        model_version=version.version,
        decision=decision,
        stands=stands.version if stands else None,
        stands_day=stands.day if stands else None,
        decided_by=THE_GATE,
        decided_at=now(),
        reason=str(record.notes["reason"]),
    )


def _entered(house: House, day: date, plan: Plan) -> Entry | None:
    """What the gate entered of the live judgement, if it was the last that it entered of this version."""
    found = live(house.store, plan)
    told = [e for e in entries(house, str(plan.part), day) if not e.by_hand]
    entry = decision_of(told, plan.inputs["model"])
    if found is None or entry is None:
        return None
    notes = found.record["notes"]
    assert isinstance(notes, dict)  # noqa: S101 - written by `_judge`
    own, other = plan.inputs["model"], plan.inputs["champion"]
    stands = own if notes["decision"] == "promoted" else None if other == "none" else other
    return entry if (entry.decision, entry.stands) == (notes["decision"], stands) else None


def _tell(record: StageRecord) -> None:
    notes = record.notes
    told = f"{record.day}: {record.part} {notes['decision']}: {notes['reason']}"
    log.log(logging.INFO if notes["decision"] == "promoted" else logging.WARNING, "%s", told)
    warnings = notes["warnings"]
    assert isinstance(warnings, list)  # noqa: S101 - written by `_judge`
    if warnings:
        log.warning("%s: %s: %s", record.day, record.part, "; ".join(warnings))


def _refuse(house: House, day: date, chosen: list[Recipe]) -> None:
    blocked = {}
    for recipe in chosen:
        version, stands = _version(house, day, recipe.name), standing_after(house, recipe.name, day)
        entry = decision_of(entries(house, recipe.name, day), version.version)
        if entry is None or entry.by_hand or entry.decision == "promoted":
            continue
        if stands is None or recipe.gate.refuse:
            stays = "no version stood before it" if stands is None else f"{stands.day} stays"
            blocked[recipe.name] = f"{recipe.name} {entry.decision} ({entry.reason}), {stays}"
    if blocked:
        refresh_catalogue(house)  # the run ends here, and one wants to ask the table which check failed
        line = next(iter(blocked))
        raise GateBlocked(
            f"gate of {day}",
            f"{'; '.join(blocked.values())}; nothing is published for {day + timedelta(days=1)}",
            f"correct the cause and run {day} again, or: funnelcast promote {line} --day {day} --reason ...",
        )


def _version(house: House, day: date, line: str) -> Version:
    version = version_of(house, line, day)
    if version is None:
        raise MissingStage(f"model {line} of {day}", "not trained", f"run the stage train of {day} first")
    return version
