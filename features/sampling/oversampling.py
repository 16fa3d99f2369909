"""Oversampling: positives of a rare objective come several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from features.errors import UsageError
from features.funnel import Funnel
from features.sampling.base import Propensity, Sampling, check_objective, repeat


@dataclass(frozen=True, kw_only=True)
class Oversampling(Sampling):
    """Every positive of an objective trains it ``factor`` times, everything else once.

    The copies are spread over the window by the shuffle, and train the objective alone. The odds in the
    sample are ``factor`` times those of the logs, which is put right in training as for negatives that are
    kept at the rate 1 / ``factor``.

    Equation: a positive trains ``factor`` times; the sample's odds are ``factor p / (1 - p)``.
    Source: Weiss, Mining with Rarity, SIGKDD Explorations 2004; as a baseline with factors 2, 3, 5 and 10
    in Ma et al., Entire Space Multi-Task Model, SIGIR 2018, section 3.2.
    Use: as a baseline; with ``Masked``.
    Cost: ``factor - 1`` further rows per positive.

    Attributes:
        objective: name of the objective.
        factor: how often each of its positives trains it, at least 1.

    Raises:
        UsageError: the factor is below 1.
    """

    objective: str
    factor: int
    own_space: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UsageError("sampling Oversampling", f"factor is {self.factor}", "give 1 or more")

    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """All rows, positives ``factor`` times; nothing is drawn. See ``Sampling.sample``."""
        positive = window[funnel[self.objective].label] == 1
        return repeat(window, funnel, {self.objective: 1 + positive.cast(pl.Int64) * (self.factor - 1)})

    def check(self, funnel: Funnel, *, own_space: bool) -> None:
        """Refuse an unknown objective."""
        check_objective(self, funnel, self.objective)

    def negative_rates(self, funnel: Funnel) -> tuple[float, ...]:
        """1 / ``factor`` for the objective, 1 for all others."""
        return tuple(1 / self.factor if o.name == self.objective else 1.0 for o in funnel)
