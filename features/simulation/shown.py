"""Who is shown what, where and when: known before anything follows from it.

Shapes: B impressions of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.simulation.noise import DAY
from features.simulation.population import STREAMS
from features.simulation.settings import SimulationSettings
from features.simulation.world import world

#: Impressions in memory at a time.
BLOCK = 250_000
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """The impressions of a slice of a day, in order of time.

    Attributes:
        ids: of the impressions.
        user_B: places in the day's window of users.
        item_B: places in the day's window of items.
        position_B: places on the page, from 1.
        at_B: microseconds from the day's start.
    """

    ids: pl.Series
    user_B: Integers
    item_B: Integers
    position_B: Integers
    at_B: Integers


def numbers(settings: SimulationSettings) -> range:
    """Numbers of the blocks of any day."""
    return range(-(-settings.impressions // BLOCK))


def shown(settings: SimulationSettings, day: date, number: int) -> Shown:
    """One block of a day."""
    first = number * BLOCK
    size = min(BLOCK, settings.impressions - first)
    draw = np.random.default_rng([settings.seed, STREAMS["exposure"], day.toordinal(), number])
    there = world(settings, day)
    low, high = (DAY * row // settings.impressions for row in (first, first + size))
    return Shown(
        ids=pl.Series("id", _day_number(day) * 10**9 + first + np.arange(size)).cast(pl.String),
        user_B=there.users.draw(draw.random(size)),
        item_B=there.items.draw(draw.random(size)),
        position_B=draw.integers(1, settings.positions + 1, size),
        at_B=np.sort(draw.integers(low, max(high, low + 1), size)),
    )


def candidates(settings: SimulationSettings, day: date) -> Iterator[pl.DataFrame]:
    """What will be shown on a day, as the day before hands it over to be scored, block by block.

    A request is an impression, so that every score meets the truth about its own impression.
    """
    there = world(settings, day)
    for number in numbers(settings):
        one = shown(settings, day, number)
        yield pl.DataFrame(
            {
                "request_id": one.ids,
                "user_id": there.users.first + one.user_B,
                "item_id": there.items.first + one.item_B,
                "position": one.position_B,
            }
        )


def micros(day: date) -> int:
    """Unix time of a day's start in microseconds; days begin at midnight UTC."""
    return (datetime(day.year, day.month, day.day) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _day_number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day
