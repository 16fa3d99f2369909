"""Every row as it is: what a line learns from unless its recipe says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from features.funnel import Funnel
from features.sampling.base import Propensity, Sampling


@dataclass(frozen=True, kw_only=True)
class Everything(Sampling):
    """No sampling.

    Equation: every row trains what its masks say, once.
    Source: none.
    Use: as the default.
    Cost: none.
    """

    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """The window itself."""
        return window
