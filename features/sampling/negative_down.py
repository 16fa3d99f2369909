"""Negative down-sampling: all positives, and a share of the negatives; the odds are put right in training."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from features.errors import UsageError
from features.funnel import Funnel
from features.sampling.base import Propensity, Sampling, check_objective, check_rate, draws, repeat


@dataclass(frozen=True, kw_only=True)
class NegativeDown(Sampling):
    """Keep every positive of an objective and a share of its negatives.

    A negative that is not kept leaves the objectives below it too. The kept impressions then are a sample
    in which only the odds of the named objectives differ from the logs: what happens after a click is
    untouched, as every click is there. So the joint losses of the entire space stay right for an
    objective of the impression itself. For one further down they do not: its negatives are mostly rows
    that never reached its parent, and without them the parent's share would change unnoticed.

    One draw serves all objectives, so that a row is dropped by all or by none of those that may.

    Equation: a negative is kept with probability ``rate``; the sample's odds are ``p / (1 - p) / rate``.
    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, section 6.3.
    Use: where impressions without a click are many and training is slow; not with ``Division``,
    ``Ordered`` and ``ESM2``, whose joint probability is no product of conditional ones.
    Cost: saves ``1 - rate`` of the negatives.

    Attributes:
        objectives: names of the objectives whose negatives are thinned out.
        rate: share of the negatives that is kept, in (0, 1].

    Raises:
        UsageError: the rate is no share, or no objective is named.
    """

    objectives: tuple[str, ...]
    rate: float

    def __post_init__(self) -> None:
        check_rate(self, "rate", self.rate)
        if not self.objectives:
            raise UsageError("sampling NegativeDown", "objectives is empty", "name at least one objective")

    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """All rows but the negatives that are not drawn; see ``Sampling.sample``."""
        drawn = draws(window, seed, "negative_down") < self.rate
        copies = {}
        for objective in funnel:
            kept = pl.repeat(True, window.height, eager=True)
            for step in funnel.path(objective.name):
                if step.name in self.objectives:
                    kept &= drawn | (window[step.label] == 1)
            copies[objective.name] = kept
        return repeat(window, funnel, copies)

    def check(self, funnel: Funnel, *, own_space: bool) -> None:
        """Refuse unknown objectives, and those below another where losses are joint."""
        for name in self.objectives:
            check_objective(self, funnel, name)
            if not own_space and funnel[name].given is not None:
                raise UsageError(
                    "sampling NegativeDown",
                    f"{name!r} is given {funnel[name].given!r}, and the method learns joint probabilities",
                    f"down-sample {funnel.path(name)[0].name!r}, or use a method that learns each objective "
                    "in its own space, such as Masked",
                )

    def negative_rates(self, funnel: Funnel) -> tuple[float, ...]:
        """``rate`` for the named objectives, 1 for all others."""
        return tuple(self.rate if o.name in self.objectives else 1.0 for o in funnel)
