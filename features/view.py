"""What a feature is, and what a view of features is."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import polars as pl

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
    """Counts per entity over the last days, from the daily partial sums of a roll-up.

    A window of ``n`` days before an instant at a day's start holds the events of those ``n`` logical days,
    as far as they had arrived by that instant. It yields ``<count>_<n>d`` for every count and window.

    Attributes:
        rollup: name of the scenario's roll-up.
        days: window lengths.
    """

    rollup: str
    days: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """The attributes of an entity as the source named ``source`` last told them."""

    source: str


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
        max_age_days: a snapshot older than this counts as missing.
        owner: who answers for it.
        description: what it says, in one line.
    """

    name: str
    keys: tuple[str, ...]
    source: Windows | Attributes | LastEvents
    features: tuple[Feature, ...]
    max_age_days: int = 7
    owner: str
    description: str

    @property
    def table(self) -> str:
        """Name of the table that holds the view."""
        return f"features/{self.name}"


def count(entity: str, action: str, days: int) -> Feature:
    """Number of ``action`` events of the entity over ``days`` days; 0 without any."""
    return Feature(
        name=f"{entity}_{action}_count_{days}d",
        expr=pl.col(f"{action}_{days}d"),
        dtype=pl.Int64(),
        encoding=Dense(scale="log1p", center=2.0, spread=1.5),
        default=0,
        description=f"Number of {action} events of the {entity} over {days} d.",
    )


def rate(entity: str, action: str, per: str, days: int, *, prior: float, strength: float) -> Feature:
    """Smoothed ``action`` events per ``per`` event over ``days`` days; ``prior`` without any.

    The estimate is (a + strength * prior) / (n + strength). An ``action`` is capped at ``per``, since an
    orphan (an action whose impression never came) must not make a rate above one.
    """
    a, n = pl.col(f"{action}_{days}d"), pl.col(f"{per}_{days}d")
    return Feature(
        name=f"{entity}_{action}_per_{per}_{days}d",
        expr=(pl.min_horizontal(a, n) + strength * prior) / (n + strength),
        dtype=pl.Float64(),
        encoding=Dense(scale="logit", center=log(prior / (1 - prior)), spread=0.5),
        default=prior,
        description=f"{action} per {per} of the {entity} over {days} d, smoothed by {strength:g} prior "
        f"{per} events at {prior:g}.",
    )


def attribute(name: str, dtype: pl.DataType, encoding: Encoding, description: str) -> Feature:
    """An attribute taken as it is; missing stays missing."""
    return Feature(name=name, expr=pl.col(name), dtype=dtype, encoding=encoding, description=description)
