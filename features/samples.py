"""The entire-space sample table: every impression, what was known of it, and what happened next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import polars as pl

from features.labels import finality, spaces
from features.scenario import Scenario
from features.view import View


def add_context(rows: pl.LazyFrame, scenario: Scenario) -> pl.LazyFrame:
    """Add the features of the request itself, from its keys and context columns."""
    return rows.with_columns(f.expr.cast(f.dtype).alias(f.name) for f in scenario.context)


def join_views(
    rows: pl.LazyFrame, views: Iterable[View], snapshots: Mapping[str, pl.LazyFrame | None]
) -> pl.LazyFrame:
    """Add the features of entities to rows of one day; the one path for training and for scoring.

    Args:
        rows: keys of the entities. Every row comes back exactly once, in its place.
        views: in an order in which each finds its entity.
        snapshots: per view, the snapshot that was valid at the start of the rows' day; ``None`` when
            there is none young enough, which makes every value missing or its default.
    """
    for view in views:
        rows = _join(rows, view, snapshots[view.name])
    return rows


def _join(rows: pl.LazyFrame, view: View, snapshot: pl.LazyFrame | None) -> pl.LazyFrame:
    if snapshot is None:
        return rows.with_columns(pl.lit(f.default, dtype=f.dtype).alias(f.name) for f in view.features)
    known = snapshot.select(view.entity, *(feature.name for feature in view.features))
    # Without a stated order Polars may answer in any, and scoring cuts its rows into blocks after this.
    joined = rows.join(
        known, on=view.entity, how="left", validate="m:1", nulls_equal=False, maintain_order="left"
    )
    return joined.with_columns(
        pl.col(f.name).fill_null(f.default) for f in view.features if f.default is not None
    )


def build(
    impressions: pl.LazyFrame,
    labels: pl.LazyFrame,
    scenario: Scenario,
    snapshots: Mapping[str, pl.LazyFrame | None],
    *,
    watermark: datetime,
) -> pl.LazyFrame:
    """Samples of one logical day, one row per impression, ordered by exposure.

    Args:
        impressions: the day's rows of the impression source.
        labels: as ``features.labels.attribute`` gives them, for at least these impressions.
        scenario: the scenario.
        snapshots: per view, what was valid at the day's start.
        watermark: labels are as of this instant; finality follows from it.
    """
    funnel = scenario.funnel
    context = [name for name in scenario.impressions.schema.names if name not in ("day", "impression_id")]
    rows = impressions.select("impression_id", *context)
    featured = join_views(add_context(rows, scenario), scenario.views, snapshots).join(
        labels, on="impression_id", how="left", validate="1:1"
    )
    return (
        featured.with_columns(
            *finality(funnel, scenario.lateness, watermark),
            *spaces(funnel),
            age_hours=((pl.lit(watermark) - pl.col("exposed_at")) / timedelta(hours=1)).cast(pl.Float32),
            weight=pl.lit(1.0, dtype=pl.Float32),
            label_as_of=pl.lit(watermark, dtype=pl.Datetime("us")),
        )
        .select(columns(scenario))
        .sort("exposed_at", "impression_id")
    )


def columns(scenario: Scenario) -> list[str]:
    """Columns of the sample table, in order."""
    funnel = scenario.funnel
    keys = ["impression_id", "user_id", "item_id", "exposed_at", "arrived_at"]
    features = [feature.name for feature in scenario.features if feature.name not in keys]
    labels = [column for o in funnel for column in (o.label, o.occurred, o.final, o.space)]
    return [*keys, *features, *labels, "age_hours", "weight", "label_as_of"]
