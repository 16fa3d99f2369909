"""A slice of a day: its impressions, all that follows from them, and the truth about them.

A block follows from the settings, the day and its number. What follows from its impressions may be delivered
days later: the column ``arrives`` of a log counts days from the exposures' day.

Shapes: B impressions, K clicks, V conversions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from features.simulation import noise as dirt
from features.simulation import shown as exposures
from features.simulation.delays import draw_delays
from features.simulation.noise import ARRIVES, MINUTE, SECOND
from features.simulation.population import STREAMS, bounds, categories
from features.simulation.settings import SimulationSettings
from features.simulation.shown import Integers, Shown
from features.simulation.world import DayWorld, world

EVENTS = ("exposure", "click", "conversion")
#: Clicks follow exposures by this much on average, and never later than the second number.
_CLICK_MEAN, _CLICK_MOST = 3 * MINUTE, 55 * MINUTE


@dataclass(frozen=True)
class Block:
    """What a slice of a day brings forth.

    Attributes:
        number: place of the block in its day, from 0.
        logs: by source, the rows to deliver with their ``arrives``.
        truth: one row an impression; see ``features.simulation``.
    """

    number: int
    logs: dict[str, pl.DataFrame]
    truth: pl.DataFrame


def blocks(settings: SimulationSettings, day: date) -> Iterator[Block]:
    """The blocks of a day, one in memory at a time."""
    for number in exposures.numbers(settings):
        yield block(settings, day, number)


def block(settings: SimulationSettings, day: date, number: int) -> Block:
    """One block of a day."""
    draw = np.random.default_rng([settings.seed, STREAMS["outcome"], day.toordinal(), number])
    there, seen = world(settings, day), exposures.shown(settings, day, number)
    size = len(seen.ids)
    pctr_B, pcvr_B = there.probabilities(seen.user_B, seen.item_B, seen.position_B)
    clicked_B, converts_B = draw.random(size) < pctr_B, draw.random(size) < pcvr_B

    click_K = np.flatnonzero(clicked_B)
    wait_K = np.minimum(2 * SECOND + draw.exponential(_CLICK_MEAN, len(click_K)), _CLICK_MOST)
    clicked_at_K = seen.at_B[click_K] + wait_K.astype(np.int64)
    bought_V = np.flatnonzero(converts_B[click_K])
    owner_V = click_K[bought_V]
    category_B = there.items.category_E[seen.item_B]
    delay_V = draw_delays(settings, category_B[owner_V], draw.random(len(owner_V)), draw.random(len(owner_V)))
    micros_V = (delay_V * SECOND).astype(np.int64)

    delay_B = np.full(size, np.nan)
    delay_B[owner_V] = micros_V / SECOND
    truth = pl.DataFrame(
        {
            "impression_id": seen.ids,
            "category": category_names(category_B),
            "pctr": pctr_B,
            "pcvr": pcvr_B,
            "clicked": clicked_B,
            "converts": converts_B,
            "delay_s": pl.Series(delay_B).fill_nan(None),
        }
    )
    return Block(
        number,
        _logs(
            settings,
            np.random.default_rng([settings.seed, STREAMS["noise"], day.toordinal(), number]),
            _True(there, seen, exposures.micros(day)),
            click_K,
            clicked_at_K,
            bought_V,
            clicked_at_K[bought_V] + micros_V,
        ),
        truth,
    )


def catalogue(settings: SimulationSettings, day: date) -> pl.DataFrame:
    """The items of a day and of the next, with their category: new ones are announced the day before."""
    first, _ = bounds(settings, "item", day)
    _, end = bounds(settings, "item", day + timedelta(days=1))
    return pl.DataFrame(
        {"item_id": np.arange(first, end), "category": category_names(categories(settings, first, end))}
    )


def category_names(category_B: Integers) -> pl.Series:
    """``c00``, ``c01`` and so on: the higher, the slower its conversions."""
    names = pl.Series("category", [f"c{n:02}" for n in range(int(category_B.max(initial=0)) + 1)])
    return names[category_B]


@dataclass(frozen=True)
class _True:
    """Rows of a log as they truly are."""

    there: DayWorld
    seen: Shown
    begins: int

    def rows(self, at: Integers, owner: Integers, arrives: Integers) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "exposure_id": self.seen.ids[owner],
                "user_id": self.there.users.first + self.seen.user_B[owner],
                "item_id": self.there.items.first + self.seen.item_B[owner],
                "ts_us": self.begins + at,
                ARRIVES: arrives,
            }
        )


def _logs(
    settings: SimulationSettings,
    draw: np.random.Generator,
    true: _True,
    click_K: Integers,
    clicked_at_K: Integers,
    bought_V: Integers,
    bought_at_V: Integers,
) -> dict[str, pl.DataFrame]:
    """The dirty logs of what happened; ``bought_V`` are places among the clicks."""
    size, at_B = len(true.seen.ids), true.seen.at_B
    told_B = dirt.arrival(settings.noise, draw, at_B, np.zeros(size, np.int64))
    told_K = dirt.arrival(settings.noise, draw, clicked_at_K, told_B[click_K])
    told_V = dirt.arrival(settings.noise, draw, bought_at_V, told_K[bought_V])
    exposure = true.rows(at_B, np.arange(size), told_B).with_columns(position=true.seen.position_B)
    logs = {"exposure": dirt.soil(settings.noise, draw, exposure, "exposure_id")}
    for source, rows in (
        ("click", true.rows(clicked_at_K, click_K, told_K)),
        ("conversion", true.rows(bought_at_V, click_K[bought_V], told_V)),
    ):
        named = rows.select((pl.lit(source[:2]) + pl.col("exposure_id")).alias("event_id"), pl.all())
        lost = dirt.orphans(settings.noise, draw, named, "event_id")
        logs[source] = pl.concat([dirt.soil(settings.noise, draw, named, "event_id"), lost])
    return logs
