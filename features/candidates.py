"""Which user-item pairs are scored for a day, by their users and items, each as of the day's start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from features.scenario import Scenario
from features.sides import Division, Snapshots

_NOT_CONTEXT = ("impression_id", "user_id", "item_id", "day", "exposed_at", "arrived_at")


@dataclass(frozen=True)
class Product:
    """Every user with every item.

    Attributes:
        division: which feature belongs to whom.
        snapshots: per view, the snapshot valid at the start of the scored day.
        members: a row per user with the columns that the division's users begin with, ordered by id.
        items: a row per item with its features, ordered by id.
    """

    division: Division
    snapshots: Snapshots
    members: pl.DataFrame
    items: pl.DataFrame

    def users(self, some: range) -> pl.DataFrame:
        """A row for each of some users with its context and features; those of all may not fit memory."""
        rows = self.members[some.start : some.stop]
        near = self.division.near(rows["user_id"], self.snapshots)
        return self.division.complete("user", rows.lazy(), near).collect()

    def pairs(self, users: pl.DataFrame, items: range) -> pl.DataFrame:
        """What pairs of users, as ``users`` gives them, and items say together, and what it follows from."""
        sides = (("user_id", users), ("item_id", self.items[items.start : items.stop]))
        left, right = (
            side.lazy().select(n for n in side.columns if n == key or n in self.division.needed)
            for key, side in sides
        )
        pairs = left.join(right, how="cross", maintain_order="left_right")
        near = self.division.near(users["user_id"], self.snapshots)
        return self.division.complete("pair", pairs, near).collect()


def from_rule(
    impressions: pl.LazyFrame, clicks: pl.LazyFrame, scenario: Scenario, snapshots: Snapshots, day: date
) -> Product:
    """Active users times live items.

    Args:
        impressions: impressions known at the start of ``day``.
        clicks: events of the click objective known at the start of ``day``.
        scenario: declares rule, context and views.
        snapshots: per view, the snapshot valid at the start of ``day``.
        day: the day to score for.
    """
    users, items = active_users(impressions, scenario, day), live_items(clicks, scenario, day)
    division = Division.of(scenario, user=users.collect_schema().names(), item=["item_id"])
    return Product(
        division, snapshots, users.collect(), division.complete("item", items, snapshots).collect()
    )


def active_users(impressions: pl.LazyFrame, scenario: Scenario, day: date) -> pl.LazyFrame:
    """Users of the last ``user_days`` days with the context of their latest impression, ordered by id.

    Of several at one instant it is that with the greatest id. What is held are the users and their latest
    impressions: a sort of all would hold the days, and take four times as long.
    """
    context = [name for name in scenario.impressions.schema.names if name not in _NOT_CONTEXT]
    recent = impressions.filter(pl.col("day") >= day - timedelta(days=scenario.candidates.user_days))
    latest = recent.group_by("user_id").agg(pl.col("exposed_at").max()).collect(engine="streaming")
    of_latest = recent.select("user_id", "exposed_at", "impression_id", *context).join(
        latest.lazy(), on=["user_id", "exposed_at"], how="semi", nulls_equal=True
    )
    return (
        of_latest.collect(engine="streaming")
        .lazy()
        .sort("impression_id", descending=True)
        .group_by("user_id", maintain_order=True)
        .agg(pl.col(name).first() for name in context)
        .sort("user_id")
    )


def live_items(clicks: pl.LazyFrame, scenario: Scenario, day: date) -> pl.LazyFrame:
    """The most clicked items of the last ``item_days`` days, ties by id, ordered by id."""
    rule = scenario.candidates
    ranked = (
        clicks.filter(pl.col("day") >= day - timedelta(days=rule.item_days))
        .group_by("item_id")
        .len("clicks")
        .sort("clicks", "item_id", descending=[True, False])
    )
    return (ranked if rule.items is None else ranked.head(rule.items)).select("item_id").sort("item_id")
