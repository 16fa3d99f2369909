"""Which user-item pairs are scored for a day, each with its features as of the day's start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import polars as pl

from features.on_demand import add_on_demand
from features.samples import add_context, join_views
from features.scenario import Scenario

_NOT_CONTEXT = ("impression_id", "user_id", "item_id", "day", "exposed_at", "arrived_at")
Snapshots = Mapping[str, pl.LazyFrame | None]


def from_rule(
    impressions: pl.LazyFrame,
    clicks: pl.LazyFrame,
    scenario: Scenario,
    snapshots: Snapshots,
    day: date,
    block_rows: int,
) -> Iterator[pl.DataFrame]:
    """Active users times live items, in blocks of whole users, ordered by user.

    What depends on the user alone or on the item alone is joined once per user or item.

    Args:
        impressions: impressions known at the start of ``day``.
        clicks: events of the click objective known at the start of ``day``.
        scenario: declares rule, context and views.
        snapshots: per view, the snapshot valid at the start of ``day``.
        day: the day to score for.
        block_rows: rows of a block, give or take one user's.
    """
    users, of_user = _side(active_users(impressions, scenario, day), scenario, snapshots, [])
    items, of_item = _side(live_items(clicks, scenario, day), scenario, snapshots, of_user)
    of_pair = [view for view in scenario.views if view.name not in (*of_user, *of_item)]
    item_rows = items.collect()
    if item_rows.is_empty():
        return
    for block in users.collect().iter_slices(max(1, block_rows // item_rows.height)):
        pairs = add_context(block.lazy().join(item_rows.lazy(), how="cross"), scenario)
        yield (
            add_on_demand(join_views(pairs, of_pair, snapshots), scenario.on_demand)
            .with_columns(pl.lit(None, dtype=pl.String()).alias("request_id"))
            .collect()
        )


def from_log(
    requested: pl.LazyFrame, scenario: Scenario, snapshots: Snapshots, block_rows: int
) -> Iterator[pl.DataFrame]:
    """The pairs of a candidates log, in blocks of whole users, ordered by user.

    Args:
        requested: ``user_id``, ``item_id``, ``request_id`` and context columns.
        scenario: declares context and views.
        snapshots: per view, the snapshot valid at the start of the scored day.
        block_rows: rows of a block, give or take one user's.
    """
    rows = requested.sort("user_id", "request_id", "item_id")
    for block in _whole_users(rows.collect_batches(chunk_size=block_rows, maintain_order=True)):
        joined = join_views(add_context(block.lazy(), scenario), scenario.views, snapshots)
        yield add_on_demand(joined, scenario.on_demand).collect()


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
    return (
        clicks.filter(pl.col("day") >= day - timedelta(days=rule.item_days))
        .group_by("item_id")
        .len("clicks")
        .sort("clicks", "item_id", descending=[True, False])
        .head(rule.items)
        .select("item_id")
        .sort("item_id")
    )


def _side(
    rows: pl.LazyFrame, scenario: Scenario, snapshots: Snapshots, taken: list[str]
) -> tuple[pl.LazyFrame, list[str]]:
    """Join every view whose entity is at hand on this side; also the names of those views."""
    joined = []
    for view in scenario.views:
        if view.name not in taken and set(view.keys) <= set(rows.collect_schema().names()):
            rows = join_views(rows, [view], snapshots)
            joined.append(view.name)
    return rows, joined


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
