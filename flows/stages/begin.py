"""The first day of a line: a fresh one, or one that takes over from another line what its recipe names."""

from __future__ import annotations

from datetime import date

from features.errors import BadWarehouse, MissingStage
from flows.house import House
from flows.recipes import Recipe
from flows.stages.version import Version, load, parent_of
from models import checkpoint
from models.handover import take_over
from models.line import Line


def giver_of(house: House, recipe: Recipe, day: date) -> Version | None:
    """The version that a line's first day takes over from; ``None`` if its recipe names no other line.

    Raises:
        MissingStage: the other line has no version of a day before.
    """
    if recipe.handover is None:
        return None
    found = parent_of(house, recipe.handover.line, day)
    if found is None:
        raise MissingStage(
            f"line {recipe.handover.line} before {day}",
            f"has no version, and line {recipe.name} begins with parts of one",
            f"run the line {recipe.handover.line} on an earlier day first, or leave the handover out",
        )
    return found


def begin(house: House, recipe: Recipe, giver: Version | None) -> Line:
    """The line before its first day.

    Args:
        house: where to work.
        recipe: of the line.
        giver: as ``giver_of`` finds it.

    Raises:
        OtherFeatures: the other line was trained with another feature set; its rows mean other ids.
        BadWarehouse: its checkpoint is damaged, or the map does not fit; every difference is named.
    """
    line = load(house, recipe, None)
    if giver is None or recipe.handover is None:
        return line
    try:
        state, _ = checkpoint.load(giver.folder)
        take_over(line, recipe.handover, state)
    except (OSError, ValueError) as error:
        raise BadWarehouse(
            f"handover of line {recipe.name} from {giver.line} of {giver.day}",
            str(error),
            "correct the map of the recipe's handover, or leave it out and begin afresh",
        ) from error
    return line
