"""Which user-item pairs are scored for a day, by their users and items, each as of the day's start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from features.scenario import Scenario
from features.sides import Division

_NOT_CONTEXT = ("impression_id", "user_id", "item_id", "day", "exposed_at", "arrived_at")
Snapshots = Mapping[str, pl.LazyFrame | None]


@dataclass(frozen=True)
class Product:
    """Every user with every item.

    Attributes:
        division: which feature belongs to whom.
        snapshots: per view, the snapshot valid at the start of the scored day.
        users: a row per user with its context and features, ordered by id.
        items: a row per item with its features, ordered by id.
    """

    division: Division
    snapshots: Snapshots
    users: pl.DataFrame
    items: pl.DataFrame

    def pairs(self, users: range, items: range) -> pl.DataFrame:
        """What pairs of these users and items say together, user by user, with what it follows from."""
        sides = (("user_id", self.users, users), ("item_id", self.items, items))
        left, right = (
            side[taken.start : taken.stop].lazy().select(carried(side, key, self.division))
            for key, side, taken in sides
        )
        pairs = left.join(right, how="cross", maintain_order="left_right")
        return self.division.complete("pair", pairs, self.snapshots).collect()


@dataclass(frozen=True)
class Listed:
    """Pairs of a candidates log.

    Attributes:
        division: which feature belongs to whom.
        users: a row per user that occurs, with its features.
        items: a row per item that occurs, with its features.
        pairs: a row per pair, ordered by user, request and item: ``user_id``, ``item_id``, ``request_id``,
            context and features of the pair, and the places of its user and item (``user_place``,
            ``item_place``, int64).
    """

    division: Division
    users: pl.DataFrame
    items: pl.DataFrame
    pairs: pl.DataFrame


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
        division,
        snapshots,
        division.complete("user", users, snapshots).collect(),
        division.complete("item", items, snapshots).collect(),
    )


def from_log(
    requested: pl.LazyFrame, scenario: Scenario, snapshots: Snapshots, block_rows: int
) -> Iterator[Listed]:
    """The pairs of a candidates log, in blocks of whole users, ordered by user, request and item.

    Args:
        requested: ``user_id``, ``item_id``, ``request_id`` and context columns.
        scenario: declares context and views.
        snapshots: per view, the snapshot valid at the start of the scored day.
        block_rows: rows of a block, give or take one user's.
    """
    division = Division.of(scenario, user=["user_id"], item=["item_id"])
    rows = requested.sort("user_id", "request_id", "item_id")
    for block in _whole_users(rows.collect_batches(chunk_size=block_rows, maintain_order=True)):
        yield _listed(block, division, snapshots)


def carried(side: pl.DataFrame, key: str, division: Division) -> list[str]:
    """Columns of a side that its pairs take over."""
    return [name for name in side.columns if name == key or name in division.needed]


def _listed(block: pl.DataFrame, division: Division, snapshots: Snapshots) -> Listed:
    sides = {}
    pairs = block.lazy()
    for side, key in (("user", "user_id"), ("item", "item_id")):
        place = f"{side}_place"
        members = block.lazy().select(key).unique().sort(key)
        own = division.complete("user" if side == "user" else "item", members, snapshots).collect()
        look_up = own.lazy().select(carried(own, key, division)).with_row_index(place)
        look_up = look_up.with_columns(pl.col(place).cast(pl.Int64))
        pairs = pairs.join(look_up, on=key, how="left", nulls_equal=True, maintain_order="left")
        sides[side] = own
    return Listed(
        division, sides["user"], sides["item"], division.complete("pair", pairs, snapshots).collect()
    )


def active_users(impressions: pl.LazyFrame, scenario: Scenario, day: date) -> pl.LazyFrame:
    """Users of the last ``user_days`` days with the context of their latest impression, ordered by id."""
    context = [name for name in scenario.impressions.schema.names if name not in _NOT_CONTEXT]
    recent = impressions.filter(pl.col("day") >= day - timedelta(days=scenario.candidates.user_days))
    return (
        recent.sort("exposed_at", "impression_id", descending=True)
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


def _whole_users(blocks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, cut between users: the last user of a block waits for the next block."""
    waiting: pl.DataFrame | None = None
    for block in blocks:
        rows = block if waiting is None else pl.concat([waiting, block])
        if rows.is_empty():
            continue
        last = rows["user_id"] == rows["user_id"][-1]
        waiting = rows.filter(last)
        if not last.all():
            yield rows.filter(~last)
    if waiting is not None:
        yield waiting
