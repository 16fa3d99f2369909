"""Why a day would run: the first thing that is not what its inputs ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from features.errors import BadWarehouse, FunnelcastError, MissingStage
from flows import recipes
from flows.house import House
from flows.stages import gate, read, sample, score, train, view
from flows.stages.encode import plan_id_maps
from flows.stages.sample import plan_sample
from flows.stages.settle import Plan

_NAMED = 3


def reason(house: House, day: date, todo: Sequence[str], lines: tuple[str, ...]) -> str:
    """One line: the first stage to run, what of it is not there or differs, and in which inputs.

    Args:
        house: where.
        day: the day.
        todo: its stages still to run, in order; none where only the ledger lacks it.
        lines: the model lines.
    """
    if not todo:
        return "a run was killed before it was entered into the ledger"
    try:
        for plan in _plans(house, day, todo[0], lines):
            if told := _differs(house, plan):
                return f"{todo[0]}: {told}"
    except MissingStage as error:
        return f"{todo[0]}: {error.where} is not there yet"
    except FunnelcastError as error:
        return f"{todo[0]}: {error}"
    return f"{todo[0]}: not done, or from other inputs"


def _plans(house: House, day: date, stage: str, lines: tuple[str, ...]) -> Iterator[Plan]:
    """What the stages make whose inputs are known before anything runs."""
    scenario = house.scenario
    if stage == read.STAGE:
        for source in scenario.sources:
            if (files := read.files_of(house, source, day)) is not None:
                yield read.plan_read(house, source, day, files)
    elif stage == view.STAGE:
        for declared in scenario.rollups:
            yield view.plan_rollup(house, declared, day)
        for one, valid in view.wanted(house, day):
            yield view.plan_view(house, one, valid)
    elif stage == sample.STAGE:
        yield plan_sample(house, day, day)
    elif stage == train.STAGE:
        maps = plan_id_maps(house, day)
        yield maps
        for name in lines:
            yield train.plan_model(house, day, recipes.get(scenario.name, name), maps.key)
    elif stage == gate.STAGE:
        yield from (gate.plan_gate(house, day, recipes.get(scenario.name, name)) for name in lines)
    elif stage == score.STAGE:
        yield from (score.plan_scores(house, day, name) for name in lines)


def _differs(house: House, plan: Plan) -> str:
    """What is wrong with a partition; empty if it is as planned."""
    what = f"{plan.table.name}{f' of {plan.part}' if plan.part else ''}"
    try:
        found = house.store.generation(plan.table, plan.day, **plan.cuts)
    except BadWarehouse as error:
        return str(error)
    if found is None:
        return f"{what} of {plan.day} is not there"
    if found.key == plan.key:
        return ""
    recorded = found.record["inputs"]
    assert isinstance(recorded, dict)  # noqa: S101 - every stage records them
    names = [name for name in {**plan.inputs, **recorded} if plan.inputs.get(name) != recorded.get(name)]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what} is from another {', '.join(names[:_NAMED])}{more}"
