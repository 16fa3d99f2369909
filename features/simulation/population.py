"""Users and items: who is there on a day, what they like, and how that drifts.

Ids are given in order of arrival, and the active ones of a day are a window of them that moves on every day.
What an id is follows from the seed and the id alone; ids are drawn in chunks, so that any window is made
without those before it.

What drifts is a sum of waves with frequencies drawn from a Cauchy distribution. Its covariance over days is
exp(-days / drift_days) exactly, that of a process that forgets at a constant rate (Ornstein-Uhlenbeck), and
yet any day's value is had without the days before.
Source: Rahimi and Recht, Random Features for Large-Scale Kernel Machines (2007): a stationary kernel is the
expectation of cosines whose frequencies follow its Fourier transform; equation from memory of that paper.

Shapes: E entities of the window, C of a chunk, F latent factors, W waves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt

from features.simulation.settings import SimulationSettings

Floats = npt.NDArray[np.float32]
FACTORS, WAVES, CHUNK = 4, 8, 4_096
#: Streams of random numbers: the first number after the seed.
STREAMS = {
    "user": 1,
    "item": 2,
    "category": 3,
    "promotion": 4,
    "exposure": 5,
    "noise": 6,
    "outcome": 7,
}
#: Shares of the variance of a logit's lasting part: user, item (half of it by category), both together.
USER, ITEM, BOTH = 0.3, 0.4, 0.3
#: Standard deviations of the logarithm of how often one is drawn.
UNEVEN = {"user": 1.0, "item": 1.2}


@dataclass(frozen=True)
class Window:
    """The entities of a day.

    Attributes:
        first: id of the first one; the others follow.
        effect_E2: what each adds to the logits of click and conversion, drift included.
        taste_EF: latent factors as to the click.
        need_EF: latent factors as to the conversion.
        until_E: cumulated share of impressions, up to and with each.
        category_E: segment, 0 for users.
    """

    first: int
    effect_E2: Floats
    taste_EF: Floats
    need_EF: Floats
    until_E: npt.NDArray[np.float64]
    category_E: npt.NDArray[np.int64]

    def draw(self, uniform_B: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Places in the window of the entities that uniform numbers mean."""
        return np.minimum(np.searchsorted(self.until_E, uniform_B, side="right"), len(self.until_E) - 1)


def bounds(settings: SimulationSettings, who: Literal["user", "item"], day: date) -> tuple[int, int]:
    """First active id of a day, and the one after the last."""
    size = settings.users if who == "user" else settings.items
    share = settings.new_users if who == "user" else settings.new_items
    first = round(size * share * (day - settings.start).days)
    return first, first + size


def window(settings: SimulationSettings, who: Literal["user", "item"], day: date) -> Window:
    """The users or items of a day."""
    first, end = bounds(settings, who, day)
    numbers = range(first // CHUNK, (end - 1) // CHUNK + 1)
    chunks = [_chunk(settings, who, number, day) for number in numbers]
    cut = slice(first - numbers.start * CHUNK, end - numbers.start * CHUNK)
    effect, taste, need, weight, category = (
        np.concatenate([chunk[n] for chunk in chunks])[cut] for n in range(5)
    )
    until = np.cumsum(weight, dtype=np.float64)
    return Window(first, effect, taste, need, until / until[-1], category)


def categories(settings: SimulationSettings, first: int, end: int) -> npt.NDArray[np.int64]:
    """Segments of the items from ``first`` to before ``end``."""
    return (np.arange(first, end) * 2_654_435_761 >> 8) % settings.categories


def _chunk(
    settings: SimulationSettings, who: Literal["user", "item"], number: int, day: date
) -> tuple[npt.NDArray[np.generic], ...]:
    draw = np.random.default_rng([settings.seed, STREAMS[who], number])
    selection = settings.selection
    own = np.sqrt(USER if who == "user" else ITEM / 2)
    effect_C2 = own * _related(draw.standard_normal((2, CHUNK)), selection).T
    taste_CF = draw.standard_normal((CHUNK, FACTORS))
    need_CF = taste_CF
    if who == "user":  # items have one vector, so that selection passes through unchanged
        need_CF = _related(np.stack([taste_CF, draw.standard_normal((CHUNK, FACTORS))]), selection)[1]
        taste_CF, need_CF = (vector * np.sqrt(BOTH / FACTORS) for vector in (taste_CF, need_CF))
    weight_C = np.exp(UNEVEN[who] * draw.standard_normal(CHUNK))
    frequency_2CW = draw.standard_cauchy((2, CHUNK, WAVES)) / settings.drift_days
    phase_2CW = draw.uniform(0, 2 * np.pi, (2, CHUNK, WAVES))
    waves_2C = np.cos(frequency_2CW * day.toordinal() + phase_2CW).sum(-1) * np.sqrt(2 / WAVES)
    category_C = np.zeros(CHUNK, np.int64)
    if who == "item":
        category_C = categories(settings, number * CHUNK, (number + 1) * CHUNK)
        effect_C2 = effect_C2 + np.sqrt(ITEM / 2) * _of_categories(settings)[category_C]
    drift_C2 = settings.drift * np.sqrt(0.5) * _related(waves_2C, selection).T
    spread = np.float32(settings.spread)
    return (
        (settings.spread * effect_C2 + drift_C2).astype(np.float32),
        taste_CF.astype(np.float32) * (spread if who == "user" else np.float32(1)),
        need_CF.astype(np.float32) * (spread if who == "user" else np.float32(1)),
        weight_C,
        category_C,
    )


def _of_categories(settings: SimulationSettings) -> npt.NDArray[np.float64]:
    """Effects of the categories, standardised: few as they are, they would shift the means otherwise."""
    draw = np.random.default_rng([settings.seed, STREAMS["category"]])
    raw = draw.standard_normal((settings.categories, 2))
    raw -= raw.mean(0)
    if settings.categories > 2:
        raw = np.linalg.qr(raw)[0] * np.sqrt(settings.categories)
    return _related(raw.T, settings.selection).T


def _related(parts: npt.NDArray[np.float64], correlation: float) -> npt.NDArray[np.float64]:
    """Two independent arrays as two of that correlation; the first stays."""
    first, second = parts
    return np.stack([first, correlation * first + np.sqrt(1 - correlation**2) * second])
