"""Decisions that somebody makes: let a version pass that was kept out, or go back to one that stood before.

Both only add a row to ``promotions``. What follows from it, `funnelcast status` shows as stages to run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from features.bookkeeping import MODELS
from features.errors import BadWarehouse, UsageError
from flows.house import House
from flows.stages.decisions import Entry, decision_of, enter, entries
from flows.stages.settle import now
from flows.stages.standing import standing_after
from flows.stages.version import Version, parent_of, version_of
from models.manifest import TENSORS


@dataclass(frozen=True)
class Changed:
    """What a decision changed.

    Attributes:
        entry: the row of ``promotions``.
        before: the version that stood after that day until now; ``None`` if none did.
        after: the version that stands now.
        newest: the newest day of the line.
    """

    entry: Entry
    before: Version | None
    after: Version
    newest: date


def promote(
    house: House, line: str, *, day: date | None, version: str | None, reason: str, by: str
) -> Changed:
    """Let a version stand that the gate kept out; by default that of the line's newest day.

    Later days trained from another version: they are to be made anew.

    Args:
        house: where.
        line: model line.
        day: the version of this day.
        version: or the one whose hash begins so.
        reason: why.
        by: who says so.

    Raises:
        UsageError: it cannot be found or stands already, or there is no reason.
        BadWarehouse: its weights are gone.
        Busy: a run is going on.
    """

    def decide() -> tuple[Version, Version, str]:
        found = named(house, line, day=day, version=version)
        if standing_after(house, line, found.day) == found:
            raise UsageError(
                _called(found), f"stands after {found.day} already", "funnelcast status shows what stands"
            )
        return found, found, "promoted_by_hand"

    return _enter(house, line, decide, reason, by)


def rollback(house: House, line: str, *, to: str | None, reason: str, by: str) -> Changed:
    """Go back, at the end of the line's newest day, to a version that stood before.

    The next day trains from it, over all rows that it has not learned; no day that is finished is made anew.

    Args:
        house: where.
        line: model line.
        to: how the hash of that version begins; by default the one that stood when the one that stands now
            was trained.
        reason: why.
        by: who says so.

    Raises:
        UsageError: there is no such version, it never stood or stands already, or there is no reason.
        BadWarehouse: its weights are gone.
        Busy: a run is going on.
    """

    def decide() -> tuple[Version, Version, str]:
        own = named(house, line)
        current = standing_after(house, line, own.day)
        if to is not None:
            target = named(house, line, version=to)
        else:
            before = None if current is None else parent_of(house, line, current.day)
            if before is None:
                raise UsageError(f"line {line!r}", "no version stood before this one", "name one with --to")
            target = before
        if target == current:
            raise UsageError(
                _called(target), f"stands after {own.day} already", "funnelcast status shows what stands"
            )
        entry = decision_of(entries(house, line, target.day), target.version)
        if entry is not None and not entry.by_hand and entry.stands != target.version:
            raise UsageError(
                _called(target),
                f"never stood: it was {entry.decision} ({entry.reason})",
                f"funnelcast promote {line} --day {target.day} lets it pass all the same",
            )
        return own, target, "rolled_back"

    return _enter(house, line, decide, reason, by)


def named(house: House, line: str, *, day: date | None = None, version: str | None = None) -> Version:
    """A live version of a line: that of a day, the one whose hash begins so, or the newest.

    Raises:
        UsageError: there is no such line, day or version, several begin so, or both are named.
    """
    days = house.store.days(MODELS, line=line)
    if not days:
        known = sorted({part.values["line"] for part in house.store.snapshot(MODELS).partitions})
        raise UsageError(
            f"line {line!r}", "has no version", f"choose one of {', '.join(known) or 'none yet'}"
        )
    if day is not None and version is not None:
        raise UsageError(f"line {line!r}", "both --day and --version", "give one of them")
    if version is None:
        wanted = days[-1] if day is None else day
        if wanted not in days:
            raise UsageError(f"line {line!r}", f"no version of {wanted}", f"name a day up to {days[-1]}")
        found = version_of(house, line, wanted)
        assert found is not None  # noqa: S101 - the day has a live version
        return found
    rows = house.store.scan(MODELS, line=line).select("dt", "model_version").sort("dt").collect().rows()
    beginning = [told for told, key in rows if key.startswith(version)] if version else []
    if len(beginning) != 1:
        step = "give more digits" if beginning else 'funnelcast sql "FROM models" lists them'
        count = f"{len(beginning)} versions begin" if beginning else "no version begins"
        raise UsageError(f"line {line!r}", f"{count} with {version!r}", step)
    return named(house, line, day=beginning[0])


def _enter(
    house: House, line: str, decide: Callable[[], tuple[Version, Version, str]], reason: str, by: str
) -> Changed:
    if not reason.strip():
        raise UsageError("--reason", "is empty", "say why in a sentence; it is kept with the decision")
    with house.store.lease("run"):
        about, stands, decision = decide()
        if not (stands.folder / TENSORS).is_file():
            raise BadWarehouse(
                _called(stands), "its weights were removed", "name a newer one, or restore its checkpoint"
            )
        before = standing_after(house, line, about.day)
        entry = Entry(
            day=about.day,
            line=line,
            nth=len(entries(house, line, about.day)),
            model_version=about.version,
            decision=decision,
            stands=stands.version,
            stands_day=stands.day,
            decided_by=by,
            decided_at=now(),
            reason=reason.strip(),
        )
        enter(house, about.day, [entry])
    return Changed(entry, before, stands, house.store.days(MODELS, line=line)[-1])


def _called(version: Version) -> str:
    return f"model {version.line} {version.version} of {version.day}"
