"""The truth of a day: probabilities of click and conversion of any user, item and position.

Equation: logit pctr = a + shock_c + u_c + i_c + <x_u, y_i> - position_bias log(position), and
logit pcvr = b + shock_v + u_v + i_v + <z_u, y_i>, with u, i effects of the user and the item (lasting and
drifting), x, y, z latent factors and shocks of the weekday and of promotions. The pairs (u_c, u_v),
(i_c, i_v), (x_u, z_u) have the correlation ``selection``, hence what user and item add to the two logits has
it too.

Shapes: B impressions, E entities, F latent factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from features.simulation.population import STREAMS, Floats, Window, window
from features.simulation.settings import SimulationSettings

CYCLE, PROMOTED = 28, 4
SATURDAY = 5
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DayWorld:
    """All that decides what happens on a day.

    Attributes:
        users: the active users.
        items: the live items.
        base: what is added to the logits of click and conversion: intercept and the day's shocks.
        position_bias: what the logarithm of the position takes from the click's logit.
    """

    users: Window
    items: Window
    base: tuple[float, float]
    position_bias: float

    def affinities(self, user_B: Places, item_B: Places) -> tuple[Floats, Floats]:
        """What user and item add to the logits of click and conversion.

        Args:
            user_B: places in the window of users.
            item_B: places in the window of items.
        """
        effect_B2 = self.users.effect_E2[user_B] + self.items.effect_E2[item_B]
        item_BF = self.items.taste_EF[item_B]
        click_B = effect_B2[:, 0] + np.einsum("bf,bf->b", self.users.taste_EF[user_B], item_BF)
        conversion_B = effect_B2[:, 1] + np.einsum("bf,bf->b", self.users.need_EF[user_B], item_BF)
        return click_B, conversion_B

    def probabilities(
        self, user_B: Places, item_B: Places, position_B: npt.NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """PCTR and pCVR (given the click) of impressions."""
        click_B, conversion_B = self.affinities(user_B, item_B)
        seen_B = np.float32(self.position_bias) * np.log(position_B.astype(np.float32))
        return (
            _sigmoid(click_B + np.float32(self.base[0]) - seen_B),
            _sigmoid(conversion_B + np.float32(self.base[1])),
        )


@lru_cache(maxsize=2)
def world(settings: SimulationSettings, day: date) -> DayWorld:
    """The truth of a day, from the settings and the day alone."""
    shock = _shocks(settings, day)
    base = _intercepts(settings)
    return DayWorld(
        users=window(settings, "user", day),
        items=window(settings, "item", day),
        base=(base[0] + shock[0], base[1] + shock[1]),
        position_bias=settings.position_bias,
    )


def promoted(settings: SimulationSettings, day: date) -> bool:
    """Whether a promotion is on: four days in a row somewhere in every 28."""
    cycle, place = divmod(day.toordinal(), CYCLE)
    draw = np.random.default_rng([settings.seed, STREAMS["promotion"], cycle])
    return 0 <= place - int(draw.integers(CYCLE - PROMOTED + 1)) < PROMOTED


def _shocks(settings: SimulationSettings, day: date) -> tuple[float, float]:
    swing = settings.weekday * float(np.cos(2 * np.pi * (day.weekday() - SATURDAY) / 7))
    extra = settings.promotion * promoted(settings, day)
    return swing + extra / 2, swing + extra


@lru_cache(maxsize=8)
def _intercepts(settings: SimulationSettings) -> tuple[float, float]:
    """Such that the mean probabilities are those asked for, over normal logits and all positions."""
    node, weight = np.polynomial.hermite_e.hermegauss(64)
    logit = np.hypot(settings.spread, settings.drift) * node
    bias = settings.position_bias * np.log(np.arange(1, settings.positions + 1))
    shares = weight / weight.sum()
    return (
        _solve(logit[:, None] - bias, shares[:, None] / settings.positions, settings.ctr),
        _solve(logit, shares, settings.cvr),
    )


def _solve(logit: npt.NDArray[np.float64], share: npt.NDArray[np.float64], mean: float) -> float:
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        above = float((share / (1 + np.exp(-(logit + middle)))).sum()) > mean
        low, high = (low, middle) if above else (middle, high)
    return (low + high) / 2


def _sigmoid(logit_B: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit_B)), np.float32)
