"""How long conversions take: some follow at once, the others by a mean that differs by category.

Both parts are exponential, cut off at the horizon. The shape is that of the mixtures which published logs of
delayed conversions show: many within hours, a tail of days.
Source: Chapelle, Modeling Delayed Feedback in Display Advertising (2014), section 4: exponential delays whose
rate depends on the features; the quick share is ours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.simulation.settings import SimulationSettings

HOUR, DAY = 3_600.0, 86_400.0
Array = npt.NDArray[np.float64]


def slow_means(settings: SimulationSettings) -> Array:
    """Mean delay in seconds of the slow conversions of each category, evenly spread on the log scale."""
    return np.geomspace(*settings.slow_days, settings.categories) * DAY


def draw_delays(
    settings: SimulationSettings,
    category_B: npt.NDArray[np.int64],
    which_B: Array,
    uniform_B: Array,
) -> Array:
    """Delays in seconds between click and conversion, below the horizon.

    Args:
        settings: of the simulation.
        category_B: segment of each conversion.
        which_B: uniform numbers that decide between quick and slow.
        uniform_B: uniform numbers that decide how long.
    """
    mean_B = np.where(which_B < settings.quick, settings.quick_hours * HOUR, slow_means(settings)[category_B])
    horizon = settings.horizon_days * DAY
    delay_B = -mean_B * np.log1p(uniform_B * np.expm1(-horizon / mean_B))
    return np.asarray(np.minimum(delay_B, horizon - 1.0))


def known_share(settings: SimulationSettings, category: int, seconds: float) -> float:
    """True share of a category's conversions that have followed within ``seconds`` of the click."""
    horizon = settings.horizon_days * DAY
    age = min(max(seconds, 0.0), horizon)

    def within(mean: float) -> float:
        return float(np.expm1(-age / mean) / np.expm1(-horizon / mean))

    slow = within(float(slow_means(settings)[category]))
    return settings.quick * within(settings.quick_hours * HOUR) + (1 - settings.quick) * slow
