"""The entire-space sample table: every impression, what was known of it, and what happened next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import polars as pl

from features.completeness import expected
from features.funnel import Objective
from features.labels import finality, label_state, labelled, revised_at, spaces
from features.on_demand import add_on_demand
from features.scenario import Scenario
from features.view import View

#: Rows of a row group of samples: half of what other tables have, since training decodes one after the other
#: beside its steps. Files are as large and as fast to scan (``benchmarks/RESULTS.md``).
ROW_GROUP = 65_536


def add_context(rows: pl.LazyFrame, scenario: Scenario) -> pl.LazyFrame:
    """Add the features of the request itself, from its keys and context columns."""
    return rows.with_columns(f.expr.cast(f.dtype).alias(f.name) for f in scenario.context)


def join_views(
    rows: pl.LazyFrame,
    views: Iterable[View],
    snapshots: Mapping[str, pl.LazyFrame | None],
    at_impressions: Mapping[str, pl.LazyFrame] | None = None,
) -> pl.LazyFrame:
    """Add the features of entities to rows of one day; the one path for training and for scoring.

    Args:
        rows: keys of the entities; a null matches nothing. Every row comes back exactly once, in its place.
        views: in an order in which each finds its entity.
        snapshots: per view, the snapshot that was valid at the start of the rows' day; ``None`` when
            there is none young enough, which makes every value missing or its default.
        at_impressions: per view whose training rows see it as of their own instant, its values by
            ``impression_id``, instead of its snapshot.
    """
    own = at_impressions or {}
    for view in views:
        if view.name in own:
            rows = _join(rows, view, own[view.name], ("impression_id",))
        else:
            rows = _join(rows, view, snapshots[view.name], view.keys)
    return rows


def _join(
    rows: pl.LazyFrame, view: View, snapshot: pl.LazyFrame | None, keys: tuple[str, ...]
) -> pl.LazyFrame:
    if snapshot is None:
        return rows.with_columns(pl.lit(f.default, dtype=f.dtype).alias(f.name) for f in view.features)
    known = snapshot.select(*keys, *(feature.name for feature in view.features))
    # Without a stated order Polars may answer in any, and scoring cuts its rows into blocks after this.
    joined = rows.join(known, on=keys, how="left", validate="m:1", nulls_equal=False, maintain_order="left")
    return joined.with_columns(
        pl.col(f.name).fill_null(f.default) for f in view.features if f.default is not None
    )


def featured(
    impressions: pl.LazyFrame,
    scenario: Scenario,
    snapshots: Mapping[str, pl.LazyFrame | None],
    at_impressions: Mapping[str, pl.LazyFrame] | None = None,
) -> pl.LazyFrame:
    """Keys and features of impressions: what was known at each, whatever happened next; in their order.

    Args:
        impressions: rows of the impression source, of one logical day.
        scenario: the scenario.
        snapshots: per view, what was valid at the day's start.
        at_impressions: per view that is fresh by event, its values at these impressions.
    """
    context = [name for name in scenario.impressions.schema.names if name not in ("day", "impression_id")]
    rows = impressions.select("impression_id", *context)
    joined = join_views(add_context(rows, scenario), scenario.views, snapshots, at_impressions)
    return add_on_demand(joined, scenario.on_demand).select(known_columns(scenario))


def with_labels(
    known: pl.LazyFrame,
    labels: pl.LazyFrame,
    scenario: Scenario,
    *,
    watermark: datetime,
    completeness: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """Samples, one row per impression, in the order in which they come.

    Args:
        known: as ``featured`` gives it, or as it stands in samples with labels of an earlier instant.
        labels: as ``features.labels.attribute`` gives them.
        scenario: the scenario.
        watermark: labels are as of this instant; finality follows from it.
        completeness: rows of the table of that name that were valid at the watermark, if there are any.
    """
    funnel = scenario.funnel
    flagged = labelled(known, labels, funnel).with_columns(
        *finality(funnel, scenario.lateness, watermark),
        *spaces(funnel),
        revised_at(funnel, scenario.lateness),
    )
    for objective in funnel:
        flagged = expected(flagged, completeness, scenario, objective, watermark)
    return flagged.with_columns(
        label_state(funnel),
        age_hours=((pl.lit(watermark) - pl.col("exposed_at")) / timedelta(hours=1)).cast(pl.Float32),
        weight=pl.lit(1.0, dtype=pl.Float32),
        label_as_of=pl.lit(watermark, dtype=pl.Datetime("us")),
    ).select(columns(scenario))


def columns(scenario: Scenario) -> list[str]:
    """Columns of the sample table, in order."""
    labels = [column for o in scenario.funnel for column in label_columns(o)]
    clocks = ["label_state", "revised_at", "age_hours", "weight", "label_as_of"]
    return [*known_columns(scenario), *labels, *clocks]


def known_columns(scenario: Scenario) -> list[str]:
    """The first of them: keys and features, which no later event changes."""
    keys = ["impression_id", "user_id", "item_id", "exposed_at", "arrived_at"]
    return [*keys, *(feature.name for feature in scenario.features if feature.name not in keys)]


def label_columns(o: Objective) -> list[str]:
    """What a sample says of one objective, in order."""
    value = [] if o.value is None else [o.total]
    return [o.label, o.count, *value, o.occurred, o.known, o.final, o.space, o.completeness]
