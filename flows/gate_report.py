"""What `run` and `status` say of the gate: which version stands, and what was kept out and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows import recipes
from flows.stages.decisions import Entry, decision_of, entries
from flows.stages.standing import standing_after
from flows.stages.version import Version, version_of

if TYPE_CHECKING:
    from flows.house import House

#: Digits of a version that people are shown; JSON has all.
SHORT = 8


@dataclass(frozen=True)
class Judged:
    """The decision about a day's version of a line, and what stands after it.

    Attributes:
        entry: the decision.
        stands: the version; ``None`` if none does.
        refused: whether nothing is published for the next day because of it.
    """

    entry: Entry
    stands: Version | None
    refused: bool

    @property
    def own(self) -> bool:
        """Whether the day's own version stands."""
        return self.stands is not None and self.stands.version == self.entry.model_version

    def record(self) -> dict[str, object]:
        """For machines."""
        return {
            "day": self.entry.day,
            "line": self.entry.line,
            "version": self.entry.model_version,
            "decision": self.entry.decision,
            "decided_by": self.entry.decided_by,
            "reason": self.entry.reason,
            "refused": self.refused,
            "stands": None
            if self.stands is None
            else {"version": self.stands.version, "day": self.stands.day},
        }

    def __str__(self) -> str:
        """For people, in one line."""
        entry, after = self.entry, self.entry.day + dt.timedelta(days=1)
        told = f"{entry.line} of {entry.day}: {entry.decision.replace('_', ' ')}, {entry.reason}"
        if entry.by_hand:
            told = f"{told} (by {entry.decided_by})"
        if self.own:
            return told
        if self.stands is None or self.refused:
            stays = "no version stands" if self.stands is None else f"{self.stands.day} stands"
            return f"{told}; {stays}, nothing is published for {after}"
        return f"{told}; {after} is scored with {self.stands.version[:SHORT]} of {self.stands.day}"


def judged(house: House, days: Iterable[dt.date], lines: Sequence[str]) -> Iterator[Judged]:
    """What counts of the decisions of some days, oldest first; days that were not judged are left out."""
    for day in days:
        for line in lines:
            version = version_of(house, line, day)
            entry = None if version is None else decision_of(entries(house, line, day), version.version)
            if entry is None:
                continue
            stands = standing_after(house, line, day)
            out = not entry.by_hand and entry.decision != "promoted"
            refused = out and (stands is None or recipes.get(house.scenario.name, line).gate.refuse)
            yield Judged(entry, stands, refused)


def newest(house: House, days: Sequence[dt.date], lines: Sequence[str]) -> list[Judged]:
    """The same of the newest judged day of every line."""
    found = []
    for line in lines:
        for day in reversed(days):
            if told := list(judged(house, [day], [line])):
                found += told
                break
    return found


def worth_telling(found: Iterable[Judged]) -> list[str]:
    """Those that are no matter of course: kept out, decided by hand, or without a baseline."""
    return [
        f"Gate: {one}"
        for one in found
        if not one.own or one.entry.by_hand or "no baseline" in one.entry.reason
    ]
