"""Which impressions a change came too late for: it had happened before them, and was known only after.

The join as of an impression leaves such a change out (``features.point_in_time``). Nobody misses it in the
samples; how often it happens says how late the log of changes is.
"""

from __future__ import annotations

import polars as pl

from features.view import History, View


def withheld(view: View, changes: pl.LazyFrame, impressions: pl.LazyFrame) -> pl.DataFrame:
    """``impression_id`` of every impression that one of the changes is kept from, once each.

    Args:
        view: of a history.
        changes: its keys, ``occurred_at``, and ``arrived_at`` where the view has no publish delay.
        impressions: the view's keys, ``impression_id`` and ``exposed_at``; copies count once.

    Raises:
        TypeError: the view has no history.
    """
    if not isinstance(view.source, History):
        raise TypeError(f"View {view.name!r} has no history.")
    delay = view.source.publish_delay
    known = pl.col("arrived_at") if delay is None else pl.col("occurred_at") + delay
    keys = list(view.keys)
    late = changes.select(*keys, "occurred_at", known.alias("__known_at")).drop_nulls()
    late = late.filter(pl.col("__known_at") > pl.col("occurred_at")).unique()
    asked = impressions.select("impression_id", "exposed_at", *keys)
    met = asked.join(late, on=keys).filter(
        (pl.col("occurred_at") <= pl.col("exposed_at")) & (pl.col("exposed_at") < pl.col("__known_at"))
    )
    return met.select("impression_id").unique().collect(engine="streaming")
