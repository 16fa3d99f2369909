"""The registry: what every view declares, where it comes from, and how its newest snapshot stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches

import polars as pl

from features.bookkeeping import RUNS
from features.errors import UsageError
from features.feature_set import REQUEST
from features.scenario import Rollup, Scenario, Source
from features.schemas import samples
from features.schemas import view as view_table
from features.tables import Table
from features.versions import request_version, view_version
from features.view import Feature, View, Windows
from flows.house import House
from flows.stale import stale_days, stale_rollups


@dataclass(frozen=True)
class Origin:
    """A table that a view is computed from.

    Attributes:
        table: its name.
        query: the file under ``sql/`` that fills it.
        files: pattern of the raw files below the log root; ``None`` for a roll-up, which reads events.
    """

    table: str
    query: str
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
        name: of the view, or `REQUEST` for what the impressions bring along.
        description: what it says.
        owner: who answers for it.
        version: hash of its definition.
        keys: columns that name the entity.
        features: its fields.
        source: what it is computed from, as declared.
        lineage: the tables behind it, from the nearest to those that the raw logs fill.
        snapshot: the newest, or the one that rows of the asked day see first; ``None`` if there is none.
        wanted: the day at whose start a snapshot should be valid; ``None`` while no run has finished.
        max_age_days: a snapshot older than this counts as missing; ``None`` where there is no age.
        stale: live days whose snapshot follows from other declarations or code, and what differs.
    """

    name: str
    description: str
    owner: str
    version: str
    keys: tuple[str, ...]
    features: tuple[Feature, ...]
    source: str
    lineage: tuple[Origin, ...]
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
    """What is registered: the request's own features, then the views in join order.

    Args:
        house: where.
        name: only this one.
        day: as rows of this day see it, instead of as it stands after the newest finished run.

    Raises:
        UsageError: there is no such view.
    """
    scenario = house.scenario
    views = {view.name: view for view in scenario.views}
    if name is not None and name not in (REQUEST, *views):
        raise unknown(f"view {name!r} of scenario {scenario.name!r}", name, (REQUEST, *views))
    wanted = day or _next_day(house)
    replaced = stale_rollups(house)
    chosen = [REQUEST, *views] if name is None else [name]
    return tuple(
        _request(house, day) if one == REQUEST else _entry(house, views[one], wanted, day, replaced)
        for one in chosen
    )


def unknown(where: str, name: str, known: tuple[str, ...]) -> UsageError:
    """The error of a name that nothing has, with the nearest one that something has."""
    near = get_close_matches(name, known, n=1)
    listed = ", ".join(known) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {listed}"
    return UsageError(where, f"unknown; known are {listed}", hint)


def _request(house: House, day: date | None) -> Entry:
    scenario, table = house.scenario, samples(house.scenario)
    of_views = {feature.name for view in scenario.views for feature in view.features}
    features = tuple(feature for feature in scenario.features if feature.name not in of_views)
    known = [found for found in house.store.days(table) if day is None or found <= day]
    return Entry(
        name=REQUEST,
        description="What comes with the impression itself.",
        owner=scenario.name,
        version=request_version(scenario),
        keys=("impression_id",),
        features=features,
        source=f"source {scenario.impressions.name}",
        lineage=(_told(scenario.impressions),),
        snapshot=_snapshot(house, table, known[-1], features) if known else None,
        wanted=None,
        max_age_days=None,
        stale={},
    )


def _entry(
    house: House, view: View, wanted: date | None, day: date | None, replaced: Mapping[str, tuple[str, ...]]
) -> Entry:
    table = view_table(view, house.scenario)
    known = [found for found in house.store.days(table) if day is None or found <= day]
    return Entry(
        name=view.name,
        description=view.description,
        owner=view.owner,
        version=view_version(house.scenario, view),
        keys=view.keys,
        features=view.features,
        source=_source(view),
        lineage=_lineage(house.scenario, view),
        snapshot=_snapshot(house, table, known[-1], view.features) if known else None,
        wanted=wanted,
        max_age_days=view.max_age_days,
        stale=stale_days(house, view, replaced),
    )


def _snapshot(house: House, table: Table, day: date, features: tuple[Feature, ...]) -> Snapshot:
    """Rows and nulls of one day, counted over its live files."""
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
        return f"roll-up {view.source.rollup}"
    return f"source {view.source.source}"


def _lineage(scenario: Scenario, view: View) -> tuple[Origin, ...]:
    if not isinstance(view.source, Windows):
        return (_told(scenario.source(view.source.source)),)
    counted = _rollup(scenario, view.source)
    logs = (scenario.impressions, *scenario.events, *map(scenario.source, counted.attributes))
    return (Origin(counted.table, f"sql/{counted.query}.sql", None), *map(_told, logs))


def _told(source: Source) -> Origin:
    return Origin(source.table, f"sql/{source.query}.sql", source.files)


def _rollup(scenario: Scenario, source: Windows) -> Rollup:
    return next(declared for declared in scenario.rollups if declared.name == source.rollup)
