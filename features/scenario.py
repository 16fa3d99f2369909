"""What the data means: sources, zone, entities, funnel, views and candidates of one scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import polars as pl
import pyarrow as pa

from features.aggregates import State
from features.clocks import check_clocks
from features.funnel import Funnel
from features.on_demand import check_on_demand
from features.validation.bands import BANDS, Band
from features.validation.leakage import outcomes, refuse_outcomes
from features.view import Feature, History, View

TIMESTAMP = pa.timestamp("us")  # naive, UTC by contract
#: Columns that say which impression it is, when it was and when we knew of it; no candidate has them.
_OF_IMPRESSIONS = ("impression_id", "day", "exposed_at", "arrived_at")
#: Columns of a sample that speak of its labels, beside those of each objective.
_OF_LABELS = ("label_state", "revised_at", "age_hours", "weight", "label_as_of")


def event_schema(user: pa.DataType, item: pa.DataType) -> pa.Schema:
    """Columns that every event source yields; ``impression_id`` is null where the log carries none.

    Args:
        user: type of the user's id.
        item: type of the item's id.
    """
    return pa.schema(
        [
            ("event_id", pa.string()),
            ("impression_id", pa.string()),
            ("user_id", user),
            ("item_id", item),
            ("day", pa.date32()),
            ("occurred_at", TIMESTAMP),
            ("arrived_at", TIMESTAMP),
        ]
    )


def impression_schema(user: pa.DataType, item: pa.DataType, context: Mapping[str, pa.DataType]) -> pa.Schema:
    """Columns that the impression source yields, ending in the request's context.

    Args:
        user: type of the user's id.
        item: type of the item's id.
        context: further columns and their types.
    """
    return pa.schema(
        [
            ("impression_id", pa.string()),
            ("user_id", user),
            ("item_id", item),
            ("day", pa.date32()),
            ("exposed_at", TIMESTAMP),
            ("arrived_at", TIMESTAMP),
            *context.items(),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Source:
    """One log or table that is delivered to us.

    Attributes:
        name: what it tells: ``exposure``, ``click``, ``user``. Its table is ``events/<name>``.
        role: ``impression`` (one source has it), ``event``, ``attribute``, or ``candidate`` (pairs to score).
        query: file under ``sql/`` that turns raw rows into typed ones with a verdict.
        files: glob below the log root; ``{day}`` stands for the delivery's day.
        raw: columns that a raw file must have, with their DuckDB type.
        schema: columns that the query yields, without ``verdict`` and ``row_text``.
        key: column that identifies a row.
        params: further values bound by the query.
        late_days: how many days before its delivery a row may lie.
        timeless: the rows hold for all days, whenever they are delivered (attributes that never change).
        max_quarantined: share of quarantined rows above which the day stops.
    """

    name: str
    role: Literal["impression", "event", "attribute", "candidate"]
    query: str
    files: str
    raw: Mapping[str, str]
    schema: pa.Schema
    key: str
    params: Mapping[str, str] = field(default_factory=dict)
    late_days: int = 0
    timeless: bool = False
    max_quarantined: float = 0.05

    @property
    def table(self) -> str:
        """Name of the table that holds the typed rows."""
        return f"events/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Rollup:
    """Partial states of one kind of entity, of the events of a day or an hour.

    Attributes:
        name: the table is ``rollups/<name>``.
        keys: columns that name the entity; several for a pair, such as a user in a scene.
        query: file under ``sql/``.
        counts: columns with numbers of events that the query yields beside ``keys`` and the bucket.
        measures: further states of events, whose columns the query yields in order behind the counts. Of a
            sketch the query yields the list of values, from which the stage makes one.
        bucket: ``day``, or ``hour``, which is then beside ``day`` and counted back from the day's end.
        attributes: attribute sources that the query reads by name.
        context: columns of the request that the query reads; the impressions and every event carry them.
    """

    name: str
    keys: tuple[str, ...]
    query: str
    counts: tuple[str, ...]
    measures: tuple[State, ...] = ()
    bucket: Literal["day", "hour"] = "day"
    attributes: tuple[str, ...] = ()
    context: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Name of the table that holds the roll-up."""
        return f"rollups/{self.name}"

    @property
    def buckets(self) -> tuple[str, ...]:
        """Columns that say when the events happened."""
        return ("day",) if self.bucket == "day" else ("day", "hour")

    @property
    def states(self) -> tuple[State, ...]:
        """All states, counts first."""
        counts = (State(merge="sum", action=name, counts=True) for name in self.counts)
        return (*counts, *self.measures)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all states."""
        return tuple(column for state in self.states for column in state.columns)

    @property
    def values(self) -> tuple[str, ...]:
        """Columns of events that the measures speak of."""
        return tuple(dict.fromkeys(one.column for one in self.measures if one.column is not None))


@dataclass(frozen=True, kw_only=True)
class CandidateRule:
    """Which pairs are scored when the scenario delivers no candidates log.

    Every user with an impression in the last ``user_days`` days meets the ``items`` most clicked items of
    the last ``item_days`` days. A pair takes the request context of its user's latest impression.

    Attributes:
        user_days: how recently a user was active.
        item_days: how recently an item was live.
        items: how many items a user meets at most; ``None``: all that were clicked.
    """

    user_days: int
    item_days: int
    items: int | None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One funnel on one set of logs.

    Attributes:
        name: also the folder under ``sql/logs`` and the key of its log root in the settings.
        zone: IANA name of the zone in which its days begin.
        impressions: the source whose rows are the samples.
        events: sources of what follows an impression.
        attributes: sources of what users and items are.
        candidates_log: source of the pairs to score for a day, if one is delivered.
        rollups: partial states of the events of a day or an hour.
        funnel: what is predicted.
        context: features of the request itself, keys included, from the impression's own columns.
        views: features of entities, in join order.
        on_demand: features of both together, from the columns of the request, of the views, and of those
            before them; see ``features.on_demand``.
        candidates: rule for the pairs to score when there is no log of them.
        lateness: how long after its instant an event may arrive; a label is final only after it.
        skew: how far clocks may disagree: an event this long before its impression still belongs to it.
        bands: what the figures of a day are held to before it is learned.

    Raises:
        ValueError: a feature of the request or of a view reads what is known only after the exposure.
        UsageError: a feature on demand does, or is no expression over the columns of one row; a history
            whose rows have no second clock, or two.
    """

    name: str
    zone: str
    impressions: Source
    events: tuple[Source, ...]
    attributes: tuple[Source, ...]
    candidates_log: Source | None = None
    rollups: tuple[Rollup, ...]
    funnel: Funnel
    context: tuple[Feature, ...]
    views: tuple[View, ...]
    on_demand: tuple[Feature, ...] = ()
    candidates: CandidateRule
    lateness: timedelta = timedelta(0)
    skew: timedelta = timedelta(0)
    bands: tuple[Band, ...] = BANDS

    def __post_init__(self) -> None:
        stored = (*self.context, *(feature for view in self.views for feature in view.features))
        refuse_outcomes(stored, self.funnel)
        logs = {log.name: log for log in self.sources}
        for view in self.views:
            if isinstance(view.source, History) and view.source.source in logs:
                log = logs[view.source.source]
                check_clocks(view, log.name, log.schema.names, late_days=log.late_days)
        known = self.brought | {feature.name: feature.dtype for feature in stored}
        told = {name for source in self.events for name in source.schema.names}
        check_on_demand(
            self.on_demand,
            known,
            afterwards=outcomes(self.funnel) | set(_OF_LABELS) | told - set(self.impressions.schema.names),
            of_impressions=_OF_IMPRESSIONS,
        )

    @property
    def sources(self) -> tuple[Source, ...]:
        """All delivered sources that describe a finished day."""
        return (self.impressions, *self.events, *self.attributes)

    def source(self, name: str) -> Source:
        """The source of that name."""
        return next(source for source in self.sources if source.name == name)

    @property
    def features(self) -> tuple[Feature, ...]:
        """All features a model reads, in a fixed order: the request's own, each view's, those on demand."""
        return (
            *self.context,
            *(feature for view in self.views for feature in view.features),
            *self.on_demand,
        )

    @property
    def brought(self) -> dict[str, pl.DataType]:
        """Columns that the logs of impressions and of candidates both bring along, with their types."""
        schema = self.impressions.schema
        log = self.candidates_log.schema if self.candidates_log is not None else schema
        types = pl.Schema(schema)
        return {
            name: kind for name, kind in types.items() if name not in _OF_IMPRESSIONS and name in log.names
        }

    @property
    def restated_days(self) -> int:
        """How many days before the run's own can still gain impressions or change labels.

        One of these days may have 23 hours, and a label that is open for whole days is then still open
        in the first hour of the day after them.
        """
        open_for = self.funnel.horizon + self.lateness + self.skew
        shortened = open_for + timedelta(hours=1) if open_for else open_for
        return max(-(-shortened // timedelta(days=1)), self.impressions.late_days)

    @property
    def contested_days(self) -> int:
        """How many days before an impression's own hold what may claim one of its events, or be one.

        An event belongs to the last anchor before it. An impression of an earlier day may have been
        clicked later than this one, and clocks that disagree may place a click before its impression.
        """
        chain = max(
            sum((self.funnel.closes_after(step.name) for step in self.funnel.path(o.name)[:-1]), self.skew)
            for o in self.funnel
        )
        shortened = chain + timedelta(hours=1) if chain else chain
        return -(-shortened // timedelta(days=1))
