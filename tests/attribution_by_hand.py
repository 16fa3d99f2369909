"""Attribution spelled out over plain lists, one event at a time: the reference for ``features.labels``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from features.funnel import Funnel


@dataclass(frozen=True)
class Shown:
    """An impression."""

    id: str
    user: int | None
    item: str | None
    at: datetime


@dataclass(frozen=True)
class Done:
    """An event."""

    id: str
    impression: str | None
    user: int | None
    item: str | None
    at: datetime


@dataclass(frozen=True)
class Told:
    """What belongs to what.

    Attributes:
        first: per objective and impression, the instant of its first event.
        owner: per objective and event, its impression; an orphan has none.
    """

    first: Mapping[str, Mapping[str, datetime]]
    owner: Mapping[str, Mapping[str, str | None]]


def attribute_by_hand(
    impressions: Iterable[Shown], events: Mapping[str, Iterable[Done]], funnel: Funnel, skew: timedelta
) -> Told:
    """Ask of every event which impression it belongs to."""
    shown = {one.id: one for one in impressions}
    first: dict[str, dict[str, datetime]] = {}
    owner: dict[str, dict[str, str | None]] = {}
    for objective in funnel:
        if objective.given is None:
            anchors = {key: one.at for key, one in shown.items()}
        else:
            anchors = dict(first[objective.given])
        alike: dict[object, list[tuple[datetime, str]]] = defaultdict(list)
        for key, instant in anchors.items():
            alike[shown[key].user, shown[key].item].append((instant, key))
        first[objective.name], owner[objective.name] = {}, {}
        for event in events[objective.name]:
            found = _owner(event, anchors, alike, objective.window, skew)
            owner[objective.name][event.id] = found
            if found is not None:
                before = first[objective.name].get(found, event.at)
                first[objective.name][found] = min(before, event.at)
    return Told(first, owner)


def _owner(
    event: Done,
    anchors: Mapping[str, datetime],
    alike: Mapping[object, list[tuple[datetime, str]]],
    window: timedelta,
    skew: timedelta,
) -> str | None:
    touched = None
    if event.impression is not None:
        touched = event.impression if event.impression in anchors else None
    elif event.user is not None and event.item is not None:
        same = alike.get((event.user, event.item), [])
        touched = max([(at, key) for at, key in same if at <= event.at + skew], default=(None, None))[1]
    if touched is None or not -skew <= event.at - anchors[touched] <= window:
        return None
    return touched
