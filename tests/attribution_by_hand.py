"""Attribution spelled out over plain lists, one event at a time: the reference for ``features.labels``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from features.funnel import Funnel, Objective


@dataclass(frozen=True)
class Shown:
    """An impression; known at once unless ``arrived`` says otherwise."""

    id: str
    user: int | None
    item: str | None
    at: datetime
    arrived: datetime | None = None


@dataclass(frozen=True)
class Done:
    """An event; known at once unless ``arrived`` says otherwise."""

    id: str
    impression: str | None
    user: int | None
    item: str | None
    at: datetime
    arrived: datetime | None = None
    value: int | None = None


@dataclass(frozen=True)
class Back:
    """A reversal of an event: of ``value`` of it, or of all."""

    id: str
    reverses: str | None
    at: datetime
    arrived: datetime | None = None
    value: int | None = None


Row = TypeVar("Row", Shown, Done, Back)
#: When something happened that may own an event, and the impression that it belongs to.
Touch = tuple[datetime, str]


@dataclass
class Told:
    """What belongs to what, and what is left of it.

    Attributes:
        impressions: ids of the known impressions.
        owner: per objective and event, its impression; an orphan has none.
        first: per objective and impression with a label, its instant.
        known: the same, when we knew.
        count: the same, how many events.
        total: the same, the sum of their values.
        idle: per objective, reversals that take nothing back.
    """

    impressions: set[str] = field(default_factory=set)
    owner: dict[str, dict[str, str | None]] = field(default_factory=dict)
    first: dict[str, dict[str, datetime]] = field(default_factory=dict)
    known: dict[str, dict[str, datetime]] = field(default_factory=dict)
    count: dict[str, dict[str, int]] = field(default_factory=dict)
    total: dict[str, dict[str, int]] = field(default_factory=dict)
    idle: dict[str, set[str]] = field(default_factory=dict)


def heard(row: Shown | Done | Back) -> datetime:
    """When we knew of a row."""
    return row.at if row.arrived is None else row.arrived


def attribute_by_hand(
    impressions: Iterable[Shown],
    events: Mapping[str, Iterable[Done]],
    funnel: Funnel,
    skew: timedelta,
    reversals: Mapping[str, Iterable[Back]] | None = None,
    as_of: datetime | None = None,
) -> Told:
    """Ask of every event which impression it belongs to, and of every impression what it has."""
    shown = _once(impressions, as_of)
    told = Told(impressions=set(shown))
    touches: dict[str | None, list[Touch]] = {None: [(s.at, s.id) for s in shown.values()]}
    for o in funnel:
        log = _once(events[o.name], as_of)
        backs = _once((reversals or {}).get(o.name, []), as_of)
        told.owner[o.name] = _owners(log, touches[o.given], shown, o.window, skew)
        touches[o.name] = [(log[e].at, i) for e, i in told.owner[o.name].items() if i is not None]
        effective: dict[str, list[Back]] = {}
        told.idle[o.name] = set()
        for back in backs.values():
            event = log.get(str(back.reverses))
            if event is None or back.at - event.at > o.reversible:
                told.idle[o.name].add(back.id)
            else:
                effective.setdefault(event.id, []).append(back)
        _fill(told, o, shown, log, effective)
    return told


def _once(rows: Iterable[Row], as_of: datetime | None) -> dict[str, Row]:
    kept: dict[str, Row] = {}
    for row in rows:
        if as_of is not None and heard(row) >= as_of:
            continue
        before = kept.get(row.id)
        if before is None or (heard(row), row.at) < (heard(before), before.at):
            kept[row.id] = row
    return kept


def _owners(
    log: Mapping[str, Done],
    touches: list[Touch],
    shown: Mapping[str, Shown],
    window: timedelta,
    skew: timedelta,
) -> dict[str, str | None]:
    named: dict[str, list[Touch]] = {}
    alike: dict[tuple[int | None, str | None], list[Touch]] = {}
    for at, impression in touches:
        named.setdefault(impression, []).append((at, impression))
        alike.setdefault((shown[impression].user, shown[impression].item), []).append((at, impression))
    owners: dict[str, str | None] = {}
    for event in log.values():
        owners[event.id] = None
        if event.impression is not None:
            if any(-skew <= event.at - at <= window for at, _ in named.get(event.impression, [])):
                owners[event.id] = event.impression
        elif event.user is not None and event.item is not None:
            before = [t for t in alike.get((event.user, event.item), []) if t[0] - event.at <= skew]
            if before and event.at - max(before)[0] <= window:
                owners[event.id] = max(before)[1]
    return owners


def _fill(
    told: Told,
    o: Objective,
    shown: Mapping[str, Shown],
    log: Mapping[str, Done],
    backs: Mapping[str, list[Back]],
) -> None:
    left: dict[str, list[tuple[Done, int]]] = {}
    for event in log.values():
        owner, value = told.owner[o.name][event.id], event.value or 0
        taken = [back.value if o.value is not None else None for back in backs.get(event.id, [])]
        rest = None if None in taken else value - sum(amount or 0 for amount in taken)
        if owner is not None and (not taken or (rest is not None and rest > 0)):
            left.setdefault(owner, []).append((event, rest or 0))
    told.first[o.name], told.known[o.name], told.count[o.name], told.total[o.name] = {}, {}, {}, {}
    for key, events in left.items():
        at, known = shown[key].at, heard(shown[key])
        if o.given is not None:
            if key not in told.first[o.given]:
                continue
            at, known = told.first[o.given][key], told.known[o.given][key]
        told.first[o.name][key] = max(at, min(event.at for event, _ in events))
        told.known[o.name][key] = max(known, min(heard(event) for event, _ in events))
        told.count[o.name][key] = len(events)
        told.total[o.name][key] = sum(value for _, value in events)
