"""AMAN, all missing as negative: rows without a click join the conversion's own space as negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from features.funnel import Funnel
from features.sampling.base import Propensity, Sampling, check_objective, check_rate, draws, repeat


@dataclass(frozen=True, kw_only=True)
class AMAN(Sampling):
    """Of the rows whose parent did not happen, a share trains the objective as if it had, and failed.

    Such a row comes as a row of its own: the labels above the objective are 1, the objective's is 0, and
    it trains the objective alone. What the row itself says of the click is learned from the row itself.

    The conditional probability then is too low by no constant: with c the probability of the parent, the
    odds of the own space are divided by 1 + rate * (1 - c) / (c * (1 - p)). It ranks, as in the paper
    that compares with it; it is not calibrated, and its rate of negatives is stated as 1.

    Equation: a row with ``o = 0`` trains ``e(0, pCVR)`` with probability ``rate``.
    Source: Pan et al., One-Class Collaborative Filtering, ICDM 2008; as a baseline with rates of 0.1, 0.2,
    0.5 and 1 in Ma et al., Entire Space Multi-Task Model, SIGIR 2018, section 3.2.
    Use: as a baseline, for the order alone; with ``Masked``.
    Cost: ``rate`` of the rows without a click come twice.

    Attributes:
        objective: name of an objective that is given another.
        rate: share of the rows outside its space that join it, in (0, 1].

    Raises:
        UsageError: the rate is no share.
    """

    objective: str
    rate: float
    own_space: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self, "rate", self.rate)

    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """The rows, then those that join the objective's space; see ``Sampling.sample``."""
        above = funnel.path(self.objective)[:-1]
        inside = window[above[-1].label] == 1
        joins = ~inside & window[f"trains_{self.objective}"] & (draws(window, seed, "aman") < self.rate)
        labels = [pl.lit(1, dtype=window.schema[step.label]).alias(step.label) for step in above]
        masks = [pl.lit(o.name == self.objective).alias(f"trains_{o.name}") for o in funnel]
        joined = window.filter(joins).with_columns(*labels, *masks)
        return pl.concat([repeat(window, funnel, {self.objective: inside}), joined])

    def check(self, funnel: Funnel, *, own_space: bool) -> None:
        """Refuse an objective without a parent."""
        check_objective(self, funnel, self.objective, with_parent=True)
