"""UNBIAS: rejection by propensity, so that clicked rows are spread as impressions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from features.funnel import Funnel
from features.sampling.base import Propensity, Sampling, check_objective, check_rate, draws, repeat


@dataclass(frozen=True, kw_only=True)
class Unbias(Sampling):
    """Keep a row of the objective's space with probability min(1, floor / propensity).

    An impression x lies in the space with the probability c(x) of the parent. Kept at floor / c(x), the
    rows of the space are spread over x as all impressions are, of which the floor's share is kept. Where
    c(x) is below the floor every row is kept, and such x remain under-represented by c(x) / floor: a lower
    floor is less biased and keeps fewer rows. Labels play no part in it, so the conditional odds are those
    of the logs.

    The propensity is that of the model before this run, as it was published. On the first day of a line
    there is none, and every row is kept.

    Equation: a row with ``o = 1`` trains pCVR with probability ``min(1, floor / pCTR)``.
    Source: Zhang et al., Bid-aware Gradient Descent for Unbiased Learning with Censored Data in Display
    Advertising, KDD 2016; as a baseline with pCTR for the propensity in Ma et al., Entire Space Multi-Task
    Model, SIGIR 2018, section 3.2.
    Use: as a baseline; with ``Masked``. ``MultiIPW`` weighs what this throws away.
    Cost: a forward pass of the model before over the rows of the space.

    Attributes:
        objective: name of an objective that is given another.
        floor: propensity up to which every row is kept, in (0, 1].

    Raises:
        UsageError: the floor is no probability above 0.
    """

    objective: str
    floor: float
    own_space: ClassVar[bool] = True
    needs_propensity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self, "floor", self.floor)

    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """The rows outside the space, then those inside that are kept; see ``Sampling.sample``."""
        parent = funnel.path(self.objective)[-2]
        inside = (window[parent.label] == 1) & window[f"trains_{self.objective}"]
        inside = inside.fill_null(False)
        within = window.filter(inside)
        if propensity is None or within.is_empty():
            return window
        kept = draws(within, seed, "unbias") * propensity(within, parent.name) < self.floor
        return pl.concat([window.filter(~inside), repeat(within, funnel, {self.objective: kept})])

    def check(self, funnel: Funnel, *, own_space: bool) -> None:
        """Refuse an objective without a parent."""
        check_objective(self, funnel, self.objective, with_parent=True, values=True)
