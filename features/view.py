"""What a feature is, and what a view of features is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import log
from typing import Literal

import polars as pl

from features.aggregates import DAY, HOUR, Aggregate, Rate, Windowed, check_window
from features.encodings import Category as Category
from features.encodings import Dense as Dense
from features.encodings import Encoding


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One named column, known before the exposure.

    Attributes:
        name: the column, in the view's table and in the samples.
        expr: how it follows from the columns that the view's source yields.
        dtype: type of the column.
        encoding: how the model reads it.
        default: value for an entity that the view does not know; ``None`` keeps it missing.
        range: least and greatest value that there can be, both included.
        nullable: whether a row of the view's source may lack it.
        description: unit, window and smoothing, in words.
    """

    name: str
    expr: pl.Expr
    dtype: pl.DataType
    encoding: Encoding
    default: float | int | None = None
    range: tuple[float, float] | None = None
    nullable: bool = True
    description: str

    @property
    def definition(self) -> tuple[str, ...]:
        """What its values follow from, as text that is the same in every process."""
        # repr() of an expression ends in its address in memory, and str() cuts long lists short.
        expr = self.expr.meta.serialize(format="json")
        limits = (str(self.range), str(self.nullable))
        return (self.name, expr, str(self.dtype), str(self.encoding), str(self.default), *limits)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What is said of the events of an entity over the last days or hours, from the parts of roll-ups.

    A window of ``n`` days before an instant at a day's start holds the events of those ``n`` logical days,
    as far as they had arrived by that instant; one of hours ends at that instant too. Each state ``s`` of
    the roll-up yields columns ``s_<n>d`` (``s_<n>h``), as ``features.aggregates`` names them.

    Attributes:
        rollup: name of the scenario's roll-up by day.
        days: window lengths.
        hourly: name of the scenario's roll-up by hour.
        hours: window lengths below a day.

    Raises:
        ValueError: a window without its roll-up, or no window.
    """

    rollup: str = ""
    days: tuple[int, ...] = ()
    hourly: str = ""
    hours: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        paired = bool(self.rollup) == bool(self.days) and bool(self.hourly) == bool(self.hours)
        if not paired or not (self.days or self.hours):
            raise ValueError(
                f"Windows of days need a roll-up by day, those of hours one by hour; got {self}."
            )
        for window in (*(n * DAY for n in self.days), *(n * HOUR for n in self.hours)):
            check_window(window)
        if max(self.hours, default=0) > 23:
            raise ValueError(f"Windows of hours are shorter than a day, got {self.hours}.")


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """The attributes of an entity as the source named ``source`` last told them."""

    source: str


@dataclass(frozen=True, kw_only=True)
class History:
    """The attributes of an entity as a log of their changes tells them.

    Each row of the source named ``source`` says what holds from its ``occurred_at`` on. It counts once that
    is over and it has arrived (``arrived_at``, not before ``occurred_at``): of the changes that count the one
    of the latest event, among those of one instant the one that arrived last, which corrects the others. One
    that happened longer ago than the view's max age says nothing, and neither does any before it.

    Attributes:
        source: name of the source.
        publish_delay: how long after its ``occurred_at`` a row can be read, for a source without
            ``arrived_at``: it counts from exactly that much later on. A source has one of the two. Such a
            row is delivered with the day on which it happened.
    """

    source: str
    publish_delay: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class LastEvents:
    """The last ``length`` events of the source per entity, newest first.

    It yields ``<source>_items`` (item ids) and ``<source>_times`` (naive UTC).
    """

    source: str
    length: int


@dataclass(frozen=True, kw_only=True)
class View:
    """Features of one entity from one source, valid from the start of a day.

    Attributes:
        name: the table is ``features/<name>``.
        keys: columns that name the entity, each present in the impressions or yielded by a view that comes
            before; several for a pair, such as a user in a scene.
        source: what the values are computed from.
        features: the columns.
        max_age_days: attributes whose delivery ended longer before the day count as unknown, and so does a
            change of a history that happened longer ago. Windows and last events are as old as they say;
            of them it only tells from which age on the newest snapshot is reported as too old.
        freshness: what a training row sees: ``daily`` the snapshot of its day's start, which is what a batch
            scorer sees; ``event`` the values as of the impression itself. Scoring sees the snapshot.
        owner: who answers for it.
        description: what it says, in one line.
    """

    name: str
    keys: tuple[str, ...]
    source: Windows | Attributes | History | LastEvents
    features: tuple[Feature, ...]
    max_age_days: int = 7
    freshness: Literal["daily", "event"] = "daily"
    owner: str
    description: str

    @property
    def table(self) -> str:
        """Name of the table that holds the view."""
        return f"features/{self.name}"


def count(entity: str, action: str, days: int) -> Feature:
    """Number of ``action`` events of the entity over ``days`` days; 0 without any."""
    return windowed(
        Aggregate(entity=entity, operation="count", action=action, window=days * DAY),
        dtype=pl.Int64(),
        encoding=Dense(scale="log1p", center=2.0, spread=1.5),
    )


def rate(entity: str, action: str, per: str, days: int, *, prior: float, strength: float) -> Feature:
    """Smoothed ``action`` events per ``per`` event over ``days`` days; ``prior`` without any."""
    return windowed(
        Rate(entity=entity, action=action, per=per, window=days * DAY, prior=prior, strength=strength),
        dtype=pl.Float64(),
        encoding=Dense(scale="logit", center=log(prior / (1 - prior)), spread=0.5),
    )


def windowed(one: Windowed, *, dtype: pl.DataType, encoding: Encoding) -> Feature:
    """An aggregate over a window, from the states of a roll-up; without events, what it is of none."""
    return Feature(
        name=one.name,
        expr=one.expr,
        dtype=dtype,
        encoding=encoding,
        default=one.default,
        range=one.range,
        description=one.description,
    )


def attribute(name: str, dtype: pl.DataType, encoding: Encoding, description: str) -> Feature:
    """An attribute taken as it is; missing stays missing."""
    return Feature(name=name, expr=pl.col(name), dtype=dtype, encoding=encoding, description=description)
