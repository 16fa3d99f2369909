"""Which features of a candidate follow from its user alone, which from its item, and which from both.

What follows from one side is joined, computed and encoded once for each user or item, not for each pair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import polars as pl

from features.encodings import Dense, Hashed
from features.on_demand import add_on_demand, inputs
from features.samples import join_views
from features.scenario import Scenario
from features.view import Feature, View

SideName = Literal["user", "item", "pair"]
T = TypeVar("T")
Snapshots = Mapping[str, pl.LazyFrame | None]
SIDES: tuple[SideName, ...] = ("user", "item", "pair")


@dataclass(frozen=True)
class Division:
    """The parts of a scenario by side, each in the scenario's order.

    Attributes:
        context: features of the request.
        views: views by the side that has their keys.
        on_demand: features on demand.
        encoded: every feature's side as the encoder sees it: a cross of a user's feature with an item's is of
            the pair, although its value is the user's.
        needed: columns of users and items that features of pairs are computed from, or encoded with.
    """

    context: Mapping[SideName, tuple[Feature, ...]]
    views: Mapping[SideName, tuple[View, ...]]
    on_demand: Mapping[SideName, tuple[Feature, ...]]
    encoded: Mapping[str, SideName]
    needed: frozenset[str]

    @classmethod
    def of(cls, scenario: Scenario, *, user: Collection[str], item: Collection[str]) -> Division:
        """Divide a scenario.

        Args:
            scenario: the scenario.
            user: columns that the rows of users have before any view is joined.
            item: likewise of items.
        """
        known: dict[str, SideName] = {**dict.fromkeys(item, "item"), **dict.fromkeys(user, "user")}

        def side_of(columns: Iterable[str]) -> SideName:
            found = {known.get(column, "pair") for column in columns}
            return next(iter(found)) if len(found) == 1 else "pair"

        context = [(side_of(inputs(feature)), feature) for feature in scenario.context]
        known |= {feature.name: side for side, feature in context}
        views: list[tuple[SideName, View]] = []
        for view in scenario.views:
            side = side_of(view.keys)
            views.append((side, view))
            known |= dict.fromkeys((feature.name for feature in view.features), side)
        on_demand: list[tuple[SideName, Feature]] = []
        for feature in scenario.on_demand:
            side = side_of(inputs(feature))
            on_demand.append((side, feature))
            known[feature.name] = side
        encoded = {f.name: side_of((f.name, *_crossed_with(f))) for f in scenario.features}
        read = [column for side, view in views if side == "pair" for column in view.keys]
        computed = [feature for side, feature in (*context, *on_demand) if side == "pair"]
        read += [column for feature in computed for column in inputs(feature)]
        crosses = [feature for feature in scenario.features if encoded[feature.name] == "pair"]
        read += [column for feature in crosses for column in (feature.name, *_crossed_with(feature))]
        return cls(_by_side(context), _by_side(views), _by_side(on_demand), encoded, frozenset(read))

    def complete(self, side: SideName, rows: pl.LazyFrame, snapshots: Snapshots) -> pl.LazyFrame:
        """Add the features of one side, as a sample of these rows would have them.

        Args:
            side: whose rows these are.
            rows: with the columns that the side begins with; those of pairs with what is ``needed``.
            snapshots: per view, the snapshot valid at the start of the scored day.
        """
        read = rows.with_columns(f.expr.cast(f.dtype).alias(f.name) for f in self.context[side])
        return add_on_demand(join_views(read, self.views[side], snapshots), self.on_demand[side])

    def near(self, users: pl.Series, snapshots: Snapshots) -> Snapshots:
        """The same of all views, but for users between the least and the greatest of these.

        Snapshots are ordered by their keys, so that of a few users who follow each other a few row groups are
        read; without it every block of them reads all of every view.
        """
        between = pl.col("user_id").is_between(pl.lit(users.min()), pl.lit(users.max()))
        cut = {view.name for own in self.views.values() for view in own if "user_id" in view.keys}
        return {
            name: snapshot.filter(between) if snapshot is not None and name in cut else snapshot
            for name, snapshot in snapshots.items()
        }

    def features(self, side: SideName) -> tuple[str, ...]:
        """Names of the features that are encoded on a side."""
        return tuple(name for name, own in self.encoded.items() if own == side)


def _by_side(found: Iterable[tuple[SideName, T]]) -> dict[SideName, tuple[T, ...]]:
    pairs = list(found)
    return {side: tuple(one for own, one in pairs if own == side) for side in SIDES}


def _crossed_with(feature: Feature) -> tuple[str, ...]:
    encoding = feature.encoding
    return encoding.by if not isinstance(encoding, Dense) and isinstance(encoding, Hashed) else ()
