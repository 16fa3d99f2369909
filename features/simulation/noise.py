"""Dirt on top of what truly happened: copies, replays, broken rows, orphans, late deliveries.

Every kind is added from random numbers of its own stream, so that the truth is the same whatever the noise,
and nothing true is taken away: each true row is delivered once in time.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.simulation.settings import Noise

SECOND = 1_000_000
MINUTE, DAY = 60 * SECOND, 86_400 * SECOND
#: A retry's time is later by this much; what happens this shortly before midnight may come a day later.
RETRY, NIGHT = 30 * SECOND, 50 * MINUTE
#: Days after its delivery on which a row is replayed: beyond the late days of the scenario.
REPLAY_DAYS = 3
LATENESS = timedelta(microseconds=NIGHT)
#: Columns of a log's rows beside those that are delivered: days from the exposure's day to the delivery.
ARRIVES = "arrives"


def arrival(
    noise: Noise, draw: np.random.Generator, since_B: npt.NDArray[np.int64], after_B: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Days from the exposure's day to the delivery that brings each event.

    Args:
        noise: of the simulation.
        draw: stream of random numbers.
        since_B: microseconds from the start of the exposure's day to the event.
        after_B: delivery of what it follows, before which it cannot come.
    """
    own_B, within_B = np.divmod(since_B, DAY)
    late_B = (DAY - within_B <= NIGHT) & (draw.random(len(since_B)) < noise.late)
    return np.asarray(np.maximum(own_B + late_B, after_B))


def soil(noise: Noise, draw: np.random.Generator, rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """The rows with copies, replays and broken rows after them.

    Args:
        noise: of the simulation.
        draw: stream of random numbers.
        rows: true rows with ``ts_us``, ``user_id`` and ``arrives``.
        key: column of the row's own id.
    """
    again, replay, broken = (
        rows.filter(pl.Series(draw.random(rows.height) < share))
        for share in (noise.duplicates, noise.replayed, noise.broken)
    )
    moved = pl.Series(np.where(draw.random(again.height) < 0.5, RETRY, 0))
    without_user = pl.Series(draw.random(broken.height) < 0.5)
    return pl.concat(
        [
            rows,
            again.with_columns(pl.col("ts_us") + moved),
            replay.with_columns(pl.col(ARRIVES) + REPLAY_DAYS),
            broken.with_columns(
                (pl.lit("x") + pl.col(key)).alias(key),
                pl.when(without_user).then(None).otherwise(pl.col("user_id")).alias("user_id"),
                pl.when(without_user)
                .then(pl.col("ts_us"))
                .otherwise(pl.col("ts_us") // 1_000)
                .alias("ts_us"),
            ),
        ]
    )


def orphans(noise: Noise, draw: np.random.Generator, rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """Further events of no impression: as some true ones, but with ids that were never delivered."""
    some = rows.filter(pl.Series(draw.random(rows.height) < noise.orphans))
    return some.with_columns(
        (pl.lit("orphan-") + pl.col(key)).alias(key),
        (pl.lit("lost-") + pl.col("exposure_id")).alias("exposure_id"),
    )
