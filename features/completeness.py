"""How complete young labels are: F(age, segment), the share of final positives that is known at an age.

F of an objective is the distribution of the time from the exposure until we knew that it happened, among
the positives of days whose labels are final. A soft label divides by it; a likelihood multiplies with it.
Per segment it is shrunk to the curve of all: (n F_segment + 20 F_all) / (n + 20) with n positives.

F is kept at ages (i / 64)^2 of the time after which the label is final, for i from 0 to 64: fine where most
events happen, coarse where few do; between them it is a straight line. F(0) = 0, F never falls, F(1) = 1.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from features.funnel import Funnel, Objective
from features.scenario import Scenario

#: Steps of the curve, and how many positives of all a segment's own are worth.
STEPS, STRENGTH = 64, 20


def open_for(scenario: Scenario, objective: Objective) -> timedelta:
    """Time after the exposure when the label is final and F is 1."""
    return scenario.funnel.closes_after(objective.name) + scenario.lateness


def has_curves(scenario: Scenario) -> bool:
    """Whether any label is open for some time; otherwise every label is complete at once."""
    return any(open_for(scenario, o) for o in scenario.funnel)


def needed(funnel: Funnel) -> list[str]:
    """Columns of the samples that ``estimate`` reads."""
    named = [name for o in funnel for name in (o.label, o.final, o.known, o.segment)]
    return ["exposed_at", *dict.fromkeys(name for name in named if name is not None)]


def estimate(samples: pl.LazyFrame, scenario: Scenario) -> pl.DataFrame:
    """The curves of all objectives, from samples whose labels are final; others are passed over.

    Returns:
        Rows of the table ``completeness``: ``objective``, ``segment`` (null for all), ``step``,
        ``age_from_hours``, ``age_to_hours``, ``completeness_from``, ``completeness_to``, ``positives``.
        Objectives without a final positive, or that are complete at once, have none.
    """
    curves = [_curves(samples, o, open_for(scenario, o)) for o in scenario.funnel if open_for(scenario, o)]
    return pl.concat(curves).sort("objective", "segment", "step", nulls_last=False)


def expected(
    rows: pl.LazyFrame,
    curves: pl.LazyFrame | None,
    scenario: Scenario,
    objective: Objective,
    watermark: datetime,
) -> pl.LazyFrame:
    """Add ``completeness_*`` of one objective to rows: 1 where final, F of their age where there is a curve.

    Rows come back once each, in their order. Null where the label is open and nothing is known of such labels
    yet. A value of the segment without a curve of its own takes that of all.

    Args:
        rows: with ``exposed_at``, ``final_*`` and the objective's segment.
        curves: rows of the table ``completeness``; ``None`` if there is none.
        scenario: declares how long labels are open.
        objective: the objective.
        watermark: the instant at which the age is taken.
    """
    total, final = open_for(scenario, objective), pl.col(objective.final)
    if not total:
        return rows.with_columns(pl.lit(1.0, dtype=pl.Float32).alias(objective.completeness))
    if curves is None:
        known = pl.when(final).then(pl.lit(1.0, dtype=pl.Float32))
        return rows.with_columns(known.alias(objective.completeness))
    rows = at_age(rows, curves, scenario, objective, pl.lit(watermark) - pl.col("exposed_at"), "_f")
    value = pl.when(final).then(1.0).otherwise(pl.col("_f"))
    return rows.with_columns(value.cast(pl.Float32).alias(objective.completeness)).drop("_f")


def at_age(
    rows: pl.LazyFrame,
    curves: pl.LazyFrame,
    scenario: Scenario,
    objective: Objective,
    age: pl.Expr,
    name: str,
) -> pl.LazyFrame:
    """Add F of an objective at an age of each row, Float64; null where there is no curve.

    Rows come back once each, in their order.

    Args:
        rows: with the objective's segment.
        curves: rows of the table ``completeness``.
        scenario: declares how long labels are open.
        objective: the objective.
        age: a duration since the exposure.
        name: of the new column.
    """
    total = open_for(scenario, objective)
    own = curves.filter(pl.col("objective") == objective.name)
    ends = (pl.col("completeness_from").alias("_from"), pl.col("completeness_to").alias("_to"))
    of_all = own.filter(pl.col("segment").is_null()).select(pl.col("step").alias("_step"), *ends)
    joined = rows.with_columns(_step(age, total).alias("_step"), _share(age, total).alias("_share")).join(
        of_all, on="_step", how="left", maintain_order="left"
    )
    low, high = pl.col("_from"), pl.col("_to")
    if objective.segment is not None:
        keys = (pl.col("segment").alias("_segment"), pl.col("step").alias("_step"))
        joined = joined.with_columns(pl.col(objective.segment).cast(pl.String).alias("_segment")).join(
            own.drop_nulls("segment").select(*keys, *ends),
            on=["_segment", "_step"],
            how="left",
            suffix="_own",
            maintain_order="left",
        )
        low, high = pl.coalesce("_from_own", low), pl.coalesce("_to_own", high)
    begin, end = _edge(pl.col("_step")), _edge(pl.col("_step") + 1)
    within = ((pl.col("_share") - begin) / (end - begin)).clip(0, 1)
    helpers = ("_step", "_share", "_from", "_to", "_segment", "_from_own", "_to_own")
    return joined.with_columns((low + (high - low) * within).alias(name)).drop(*helpers, strict=False)


def _curves(samples: pl.LazyFrame, objective: Objective, total: timedelta) -> pl.DataFrame:
    segment = pl.lit(None, dtype=pl.String()) if objective.segment is None else pl.col(objective.segment)
    delay = pl.col(objective.known) - pl.col("exposed_at")
    counted = (
        samples.filter(pl.col(objective.final) & (pl.col(objective.label) == 1))
        .select(segment.cast(pl.String).alias("segment"), _step(delay, total).alias("step"))
        .group_by("segment", "step")
        .agg(pl.len().cast(pl.Int64).alias("positives"))
        .collect(engine="streaming")
    )
    every = counted.group_by("step").agg(pl.col("positives").sum())
    of_all = _cumulated(every.with_columns(segment=pl.lit(None, dtype=pl.String()))).with_columns(
        completeness_from=pl.col("before") / pl.col("positives"),
        completeness_to=pl.col("after") / pl.col("positives"),
    )
    shared = of_all.select("step", all_from="completeness_from", all_to="completeness_to")
    of_segments = _cumulated(counted.drop_nulls("segment")).join(shared, on="step", how="left")
    weight = pl.col("positives") + STRENGTH
    of_segments = of_segments.with_columns(
        completeness_from=(pl.col("before") + STRENGTH * pl.col("all_from")) / weight,
        completeness_to=(pl.col("after") + STRENGTH * pl.col("all_to")) / weight,
    ).drop("all_from", "all_to")
    hours = total / timedelta(hours=1)
    return pl.concat([of_all, of_segments]).select(
        pl.lit(objective.name).alias("objective"),
        "segment",
        "step",
        (_edge(pl.col("step")) * hours).alias("age_from_hours"),
        (_edge(pl.col("step") + 1) * hours).alias("age_to_hours"),
        "completeness_from",
        "completeness_to",
        "positives",
    )


def _cumulated(counted: pl.DataFrame) -> pl.DataFrame:
    """Every step of every segment: positives known ``before`` it and ``after`` it, and all of the segment."""
    steps = pl.DataFrame({"step": range(STEPS)}, schema={"step": pl.Int32})
    grid = counted.select("segment").unique().join(steps, how="cross")
    dense = grid.join(counted, on=["segment", "step"], how="left", nulls_equal=True).sort("segment", "step")
    inside = pl.col("positives").fill_null(0)
    return dense.select(
        "segment",
        "step",
        (inside.cum_sum() - inside).over("segment").alias("before"),
        inside.cum_sum().over("segment").alias("after"),
        inside.sum().over("segment").alias("positives"),
    )


def _step(age: pl.Expr, total: timedelta) -> pl.Expr:
    """The step in which an age lies: from its edge, included, to the next."""
    return (STEPS * _share(age, total).clip(0, 1).sqrt()).floor().clip(0, STEPS - 1).cast(pl.Int32)


def _share(age: pl.Expr, total: timedelta) -> pl.Expr:
    return age.dt.total_microseconds().cast(pl.Float64) / (total / timedelta(microseconds=1))


def _edge(step: pl.Expr) -> pl.Expr:
    """The age at which a step begins, as a share of the time after which labels are final."""
    return (step / STEPS) ** 2
