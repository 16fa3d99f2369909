"""Which finished days descend from a version that is about to be replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from features.bookkeeping import MODELS
from features.errors import MissingStage
from flows import recipes
from flows.house import House
from flows.stages import train
from flows.stages.encode import plan_id_maps
from flows.stages.settle import live


def stale(house: House, pending: Mapping[date, Sequence[str]], lines: tuple[str, ...]) -> dict[date, date]:
    """Days whose model stands on one that will be trained anew, each with the oldest such ancestor.

    A day knows only its parent, so when D is to be trained anew, D+1 still finds the parent that it had and
    says of itself that it is done. It will not be once D is.

    Args:
        house: where.
        pending: days and the stages that they have to run, oldest first.
        lines: the model lines.
    """
    found: dict[date, date] = {}
    for name in lines:
        trained = set(house.store.days(MODELS, line=name))
        cause: date | None = None
        for day, todo in pending.items():
            if day not in trained:
                continue  # a day that was never run is nobody's ancestor yet
            if cause is not None:
                found[day] = min(cause, found.get(day, cause))
            elif todo and _replaced(house, day, name, todo):
                cause = day
    return found


def _replaced(house: House, day: date, line: str, todo: Sequence[str]) -> bool:
    """Whether running a day would give a line another version, as far as can be told without running it."""
    if train.STAGE not in todo:
        return False
    if todo[0] != train.STAGE:
        return True  # what it learns from may change
    try:
        maps = plan_id_maps(house, day)
        plan = train.plan_model(house, day, recipes.get(house.scenario.name, line), maps.key)
    except MissingStage:
        return True
    return live(house.store, maps) is None or live(house.store, plan) is None
