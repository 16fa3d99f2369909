"""The registry: what every view declares, where it comes from, and how its newest snapshot stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches

import polars as pl

from features.bookkeeping import RUNS
from features.clocks import clocks
from features.errors import UsageError
from features.feature_set import REQUEST
from features.on_demand import ON_DEMAND, inputs
from features.scenario import Rollup, Scenario, Source
from features.schemas import samples
from features.schemas import view as view_table
from features.tables import Table
from features.versions import on_demand_version, request_version, view_version
from features.view import Feature, View, Windows
from flows.house import House
from flows.stale import stale_days, stale_rollups, stale_samples


@dataclass(frozen=True)
class Origin:
    """A table that a view is computed from.

    Attributes:
        table: its name.
        query: the file under ``sql/`` that fills it; ``None`` for a view, which the registry tells of itself.
        files: pattern of the raw files below the log root; ``None`` where it is not filled from them.
    """

    table: str
    query: str | None
    files: str | None


@dataclass(frozen=True)
class Snapshot:
    """Live rows of one day.

    Attributes:
        day: the day at whose start they are valid; of the request's features, the day of the impressions.
        rows: how many.
        nulls: share of rows without a value, by feature; null of no rows is 0.
    """

    day: date
    rows: int
    nulls: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A view as the registry knows it.

    Attributes:
        name: of the view; `REQUEST` for what the impressions bring along, `ON_DEMAND` for what follows from
            that and the views together.
        description: what it says.
        owner: who answers for it.
        version: hash of its definition.
        keys: columns that name the entity.
        features: its fields.
        source: what it is computed from, as declared.
        lineage: the tables behind it, from the nearest to those that the raw logs fill.
        clocks: by what its values hold, and by what they are known; ``None`` where each input has its own.
        reads: per field on demand, the columns that it reads, each behind the name of its view.
        snapshot: the newest, or the one that rows of the asked day see first; ``None`` if there is none.
        wanted: the day at whose start a snapshot should be valid; ``None`` while no run has finished.
        max_age_days: a snapshot older than this counts as missing; ``None`` where there is no age.
        stale: live days whose snapshot follows from other declarations or code, and what differs; of features
            on demand, days of samples.
    """

    name: str
    description: str
    owner: str
    version: str
    keys: tuple[str, ...]
    features: tuple[Feature, ...]
    source: str
    lineage: tuple[Origin, ...]
    clocks: str | None
    reads: Mapping[str, tuple[str, ...]]
    snapshot: Snapshot | None
    wanted: date | None
    max_age_days: int | None
    stale: Mapping[date, tuple[str, ...]]

    @property
    def age_days(self) -> int | None:
        """Days from the snapshot to the day that wants one, 0 if it is of that day."""
        if self.snapshot is None or self.wanted is None or self.max_age_days is None:
            return None
        return (self.wanted - self.snapshot.day).days

    @property
    def expired(self) -> bool:
        """Whether the day that wants a snapshot sees none, or none that is young enough."""
        if self.wanted is None or self.max_age_days is None:
            return False
        return self.age_days is None or self.age_days > self.max_age_days


def entries(house: House, name: str | None = None, day: date | None = None) -> tuple[Entry, ...]:
    """What is registered: the request's own features, the views in join order, the features on demand.

    Args:
        house: where.
        name: only this one.
        day: as rows of this day see it, instead of as it stands after the newest finished run.

    Raises:
        UsageError: there is no such view.
    """
    scenario = house.scenario
    views = {view.name: view for view in scenario.views}
    names = (REQUEST, *views, *([ON_DEMAND] if scenario.on_demand else []))
    if name is not None and name not in names:
        raise unknown(f"view {name!r} of scenario {scenario.name!r}", name, names)
    wanted = day or _next_day(house)
    replaced = stale_rollups(house)
    own = {REQUEST: _request, ON_DEMAND: _on_demand}
    return tuple(
        own[one](house, day) if one in own else _entry(house, views[one], wanted, day, replaced)
        for one in (names if name is None else [name])
    )


def stale_of(found: Iterable[Entry]) -> tuple[set[date], set[date]]:
    """Stale days of snapshots, and of samples, as ``rebuild_command`` takes them."""
    days: dict[bool, set[date]] = {False: set(), True: set()}
    for entry in found:
        days[entry.name == ON_DEMAND].update(entry.stale)
    return days[False], days[True]


def unknown(where: str, name: str, known: tuple[str, ...]) -> UsageError:
    """The error of a name that nothing has, with the nearest one that something has."""
    near = get_close_matches(name, known, n=1)
    listed = ", ".join(known) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {listed}"
    return UsageError(where, f"unknown; known are {listed}", hint)


def _request(house: House, day: date | None) -> Entry:
    scenario = house.scenario
    return Entry(
        name=REQUEST,
        description="What comes with the impression itself.",
        owner=scenario.name,
        version=request_version(scenario),
        keys=("impression_id",),
        features=scenario.context,
        source=f"source {scenario.impressions.name}",
        lineage=(_told(scenario.impressions),),
        clocks="exposed_at, known at once",
        reads={},
        snapshot=_newest(house, samples(scenario), scenario.context, day),
        wanted=None,
        max_age_days=None,
        stale={},
    )


def _on_demand(house: House, day: date | None) -> Entry:
    """What is computed of the request and the views together; it is kept in the samples alone."""
    scenario = house.scenario
    owner = {feature.name: view for view in scenario.views for feature in view.features}
    own = {feature.name for feature in scenario.on_demand}
    reads = {feature.name: inputs(feature) for feature in scenario.on_demand}
    read = dict.fromkeys(column for columns in reads.values() for column in columns)
    views = dict.fromkeys(owner[column].table for column in read if column in owner)
    requested = any(column not in owner and column not in own for column in read)

    def told(column: str) -> str:
        view = owner[column].name if column in owner else ON_DEMAND if column in own else REQUEST
        return f"{view}.{column}"

    return Entry(
        name=ON_DEMAND,
        description="What follows from the request and the views together, computed where rows meet them.",
        owner=scenario.name,
        version=on_demand_version(scenario),
        keys=("impression_id",),
        features=scenario.on_demand,
        source="request and views",
        lineage=(
            *(Origin(table, None, None) for table in views),
            *((_told(scenario.impressions),) if requested else ()),
        ),
        clocks=None,
        reads={name: tuple(told(column) for column in columns) for name, columns in reads.items()},
        snapshot=_newest(house, samples(scenario), scenario.on_demand, day),
        wanted=None,
        max_age_days=None,
        stale=stale_samples(house),
    )


def _entry(
    house: House, view: View, wanted: date | None, day: date | None, replaced: Mapping[str, tuple[str, ...]]
) -> Entry:
    return Entry(
        name=view.name,
        description=view.description,
        owner=view.owner,
        version=view_version(house.scenario, view),
        keys=view.keys,
        features=view.features,
        source=_source(view),
        lineage=_lineage(house.scenario, view),
        clocks=clocks(view),
        reads={},
        snapshot=_newest(house, view_table(view, house.scenario), view.features, day),
        wanted=wanted,
        max_age_days=view.max_age_days,
        stale=stale_days(house, view, replaced),
    )


def _newest(house: House, table: Table, features: tuple[Feature, ...], until: date | None) -> Snapshot | None:
    """Rows and nulls of the newest day up to ``until``, counted over its live files; ``None`` without one."""
    day = max((found for found in house.store.days(table) if until is None or found <= until), default=None)
    if day is None:
        return None
    nulls = [pl.col(feature.name).null_count() for feature in features]
    counted = house.store.scan(table, [day]).select(pl.len().alias("rows of the day"), *nulls)
    rows, *missing = counted.collect(engine="streaming").row(0)
    shares = [count / rows if rows else 0.0 for count in missing]
    return Snapshot(day, rows, dict(zip((f.name for f in features), shares, strict=True)))


def _next_day(house: House) -> date | None:
    """The day after the newest finished run, for which it made features."""
    finished = house.store.scan(RUNS).filter(pl.col("state") == "finished").select(pl.col("dt").max())
    newest = finished.collect().item()
    return None if newest is None else newest + timedelta(days=1)


def _source(view: View) -> str:
    if isinstance(view.source, Windows):
        names = [name for name in (view.source.rollup, view.source.hourly) if name]
        return f"roll-up{'s' if len(names) > 1 else ''} {', '.join(names)}"
    return f"source {view.source.source}"


def _lineage(scenario: Scenario, view: View) -> tuple[Origin, ...]:
    if not isinstance(view.source, Windows):
        return (_told(scenario.source(view.source.source)),)
    counted = _rollups(scenario, view.source)
    attributes = (scenario.source(name) for one in counted for name in one.attributes)
    # Whether by way of the roll-ups or, in rows that are fresh by event, one by one: all events are read.
    logs = dict.fromkeys(map(_told, (scenario.impressions, *scenario.events, *attributes)))
    return (*(Origin(one.table, f"sql/{one.query}.sql", None) for one in counted), *logs)


def _told(source: Source) -> Origin:
    return Origin(source.table, f"sql/{source.query}.sql", source.files)


def _rollups(scenario: Scenario, source: Windows) -> list[Rollup]:
    """Of days, and of hours, as far as the view has such windows."""
    named = {declared.name: declared for declared in scenario.rollups}
    return [named[name] for name in (source.rollup, source.hourly) if name]
