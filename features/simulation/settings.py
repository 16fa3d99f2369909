"""What a simulated funnel is made from: the whole truth is a function of these numbers and a day."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from math import isfinite
from typing import Any, Literal, Self

from features.errors import UsageError

#: Days after the click in which a conversion counts: the window of the scenario ``simulated``.
WINDOW_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How dirty the logs are; what truly happened is the same whatever these say.

    Attributes:
        duplicates: share of rows that are delivered twice, half of these copies with a later time (retries).
        late: share of the events of a day's last 50 minutes that arrive with the next delivery.
        orphans: further clicks and conversions of no impression, per true one.
        broken: further rows without a user, or with a time in a wrong unit, per true one.
        replayed: share of rows that are sent once more three days later, which is too late to be taken.
    """

    duplicates: float = 0.01
    late: float = 0.5
    orphans: float = 0.005
    broken: float = 0.001
    replayed: float = 0.001

    def times(self, factor: float) -> Noise:
        """Every share multiplied, none above 1."""
        return Noise(**{name: min(1.0, share * factor) for name, share in asdict(self).items()})


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """The dials of a simulated funnel: impression -> click -> conversion.

    Attributes:
        start: first day there is; cold start counts from here.
        impressions: impressions a day.
        users: users active on a day.
        items: items live on a day.
        new_users: share of the active users that a day replaces by new ones, the longest known first.
        new_items: the same of items.
        categories: segments of items; the delay of conversions differs by them.
        ctr: mean probability of a click, without the shocks of single days.
        cvr: mean probability of a conversion given a click, over all impressions.
        spread: standard deviation of what user and item lastingly add to either logit.
        selection: correlation, over users and items, of what they add to the logits of click and conversion.
        position_bias: a click's logit falls by this times the logarithm of the position.
        positions: places of a page; an impression's is uniform from 1.
        drift: standard deviation of what drifts in either logit.
        drift_days: time in which the drift's correlation with itself falls to 1/e.
        weekday: swing of both logits over the week, highest on Saturday.
        promotion: what a promotion (four days in 28) adds to the conversion's logit, and half of it to the
            click's.
        quick: share of conversions that follow at once.
        quick_hours: mean delay of these.
        slow_days: mean delay of the others in the quickest and in the slowest category.
        horizon_days: no conversion follows its click later; at most 7, the scenario's window.
        noise: how dirty the logs are.
        seed: of everything.

    Raises:
        UsageError: a number that nothing can be made from.
    """

    start: date = date(2026, 1, 5)
    impressions: int = 100_000
    users: int = 10_000
    items: int = 2_000
    new_users: float = 0.02
    new_items: float = 0.02
    categories: int = 8
    ctr: float = 0.1
    cvr: float = 0.1
    spread: float = 1.0
    selection: float = 0.5
    position_bias: float = 0.5
    positions: int = 10
    drift: float = 0.4
    drift_days: float = 20.0
    weekday: float = 0.15
    promotion: float = 0.4
    quick: float = 0.45
    quick_hours: float = 3.6
    slow_days: tuple[float, float] = (0.6, 7.0)
    horizon_days: int = WINDOW_DAYS
    noise: Noise = field(default_factory=Noise)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, float) and not isfinite(value):
                raise UsageError(name, f"{value} is no number", "choose another number")
        for name in ("impressions", "users", "items", "categories", "positions"):
            self._check(name, 1, float("inf"))
        self._check("horizon_days", 1, WINDOW_DAYS)
        for name in ("new_users", "new_items", "quick"):
            self._check(name, 0, 1)
        for name in ("ctr", "cvr"):
            self._check(name, 1e-6, 1 - 1e-6)
        for name in ("spread", "drift", "seed"):
            self._check(name, 0, float("inf"))
        for name in ("drift_days", "quick_hours"):
            self._check(name, 1e-3, float("inf"))
        for name in ("position_bias", "weekday", "promotion"):
            self._check(name, -20, 20)
        self._check("selection", -1, 1)
        for name, share in asdict(self.noise).items():
            if not 0 <= share <= 1:
                raise UsageError(f"noise {name}", f"{share} is not between 0 and 1", "name a share")
        if len(self.slow_days) != 2 or not min(self.slow_days) >= 1e-3:
            raise UsageError("slow_days", f"{self.slow_days} are no two delays", "name two numbers of days")

    def _check(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise UsageError(name, f"{value} is not between {low:g} and {high:g}", "choose another number")

    @classmethod
    def of_size(cls, impressions: int, **dials: Any) -> Self:  # noqa: ANN401 - the dials' own types
        """With 10 impressions a day per user and 50 per item, so that any volume is as hard to learn from."""
        return cls(
            impressions=impressions,
            users=max(50, impressions // 10),
            items=max(20, impressions // 50),
            **dials,
        )

    def drifting(self, how: Literal["none", "slow", "fast"]) -> Self:
        """With tastes that stay, that move within weeks, or that move within days and more strongly."""
        drift, days = {"none": (0.0, 20.0), "slow": (0.4, 20.0), "fast": (0.8, 5.0)}[how]
        return replace(self, drift=drift, drift_days=days)

    @property
    def reach_days(self) -> int:
        """How many days after an exposure something of it can still be delivered."""
        return self.horizon_days + 5  # a click past midnight, a late delivery, a replay three days later

    def to_json(self) -> str:
        """As text that ``from_json`` reads back."""
        return json.dumps({**asdict(self), "start": self.start.isoformat()}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings that wrote this text.

        Raises:
            ValueError: it is none of ours.
        """
        values: Mapping[str, Any] = json.loads(text)
        if not isinstance(values, Mapping) or values.keys() != {one.name for one in fields(cls)}:
            raise ValueError("not the settings of a simulation")
        return cls(
            **{
                **values,
                "start": date.fromisoformat(values["start"]),
                "slow_days": tuple(values["slow_days"]),
                "noise": Noise(**values["noise"]),
            }
        )
