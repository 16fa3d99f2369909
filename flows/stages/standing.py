"""Which version of a line stands after a day: what the next day is scored with, and trains from."""

from __future__ import annotations

from datetime import date, timedelta

from features.errors import MissingStage
from flows.house import House
from flows.stages.decisions import decision_of, entries, first_judged
from flows.stages.version import Version, parent_of, version_of


def standing_after(house: House, line: str, day: date) -> Version | None:
    """The version of a line that stands at the end of a day, by the decisions up to now; ``None``: none."""
    return parent_of(house, line, day + timedelta(days=1))


def scoring_version(house: House, line: str, day: date) -> Version:
    """The version that the day after ``day`` is scored with: the one that stands once the day was judged.

    Raises:
        MissingStage: the day's version is not trained or not judged, or no version stands.
    """
    own = version_of(house, line, day)
    if own is None:
        raise MissingStage(f"model {line} of {day}", "not trained", f"run the stage train of {day} first")
    if decision_of(entries(house, line, day), own.version) is None:
        first = first_judged(house, line)
        if first is not None and first <= day:
            raise MissingStage(f"model {line} of {day}", "not judged", f"run the stage gate of {day} first")
    stands = standing_after(house, line, day)
    if stands is None:
        raise MissingStage(
            f"model {line} of {day}",
            "kept out, and no version stood before it",
            f"run the stage gate of {day}",
        )
    return stands
