"""Events that were taken back: refunds and cancellations as rows of a source of their own.

* A reversal names the event that it takes back (``reverses``). Without a value it takes the whole event;
  with one, that much of the event's value, and the event itself once nothing of it is left.
* It counts if it happened no later than ``Objective.reversible`` after its event, whichever of the two
  became known first.
* An event that was taken back stays where it belongs: what followed from it is not handed to another
  impression. It only counts no more.
"""

from __future__ import annotations

import polars as pl

from features.funnel import Objective

#: Columns that ``net`` adds, named like no column of a log.
NET = UNDONE, LEFT, REVERSED = "__undone", "__left", "__reversed_at"
_TAKEN, _WHOLE = "__taken", "__whole"


def net(events: pl.LazyFrame, reversals: pl.LazyFrame | None, objective: Objective) -> pl.LazyFrame:
    """Add to events what is left of them.

    Args:
        events: distinct events of the objective: ``event_id`` and, if it declares one, its value.
        reversals: distinct rows of its reversals: ``reverses``, ``occurred_at``, ``arrived_at`` and, where
            parts can be taken back, the value as a positive amount; ``None`` if nothing was.
        objective: names the value.

    Returns:
        The events with ``UNDONE`` (nothing is left of it), ``LEFT`` (value that is left; only where the
        objective declares one) and ``REVERSED`` (when the last reversal became known; null if none).
    """
    nothing = {UNDONE: pl.lit(False), REVERSED: pl.lit(None, dtype=pl.Datetime("us"))}
    if reversals is None:
        left = {} if objective.value is None else {LEFT: pl.col(objective.value)}
        return events.with_columns(**nothing, **left)
    effective = matched(events, reversals, objective)
    taken = effective.group_by("event_id").agg(
        pl.col("amount").sum().alias(_TAKEN),
        pl.col("amount").is_null().any().alias(_WHOLE),
        pl.col("arrived_at").max().alias(REVERSED),
    )
    joined = events.join(taken, on="event_id", how="left", maintain_order="left")
    if objective.value is None:
        return joined.with_columns(pl.col(REVERSED).is_not_null().alias(UNDONE)).drop(_TAKEN, _WHOLE)
    value = pl.col(objective.value)
    undone = pl.col(REVERSED).is_not_null() & (pl.col(_WHOLE) | (pl.col(_TAKEN) >= value.fill_null(0)))
    return joined.with_columns(undone.alias(UNDONE), (value - pl.col(_TAKEN).fill_null(0)).alias(LEFT)).drop(
        _TAKEN, _WHOLE
    )


def matched(events: pl.LazyFrame, reversals: pl.LazyFrame, objective: Objective) -> pl.LazyFrame:
    """The reversals that take something back, with the ``event_id`` that they reverse and the ``amount``.

    ``amount`` is null where the whole event is taken back. ``reversal_id`` is the reversal's own key.
    """
    partly = objective.value is not None and objective.value in reversals.collect_schema().names()
    amount = pl.col(str(objective.value)) if partly else pl.lit(None, dtype=pl.Int64())
    told = reversals.select(
        pl.col("event_id").alias("reversal_id"),
        pl.col("reverses").alias("event_id"),
        pl.col("occurred_at").alias("reversal_at"),
        "arrived_at",
        amount.alias("amount"),
    )
    happened = events.select("event_id", "occurred_at")
    in_time = pl.col("reversal_at") <= pl.col("occurred_at") + objective.reversible
    return told.join(happened, on="event_id", how="inner").filter(in_time)
