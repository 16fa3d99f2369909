"""Every row as it is: what a line learns from unless its recipe says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from features.funnel import Funnel
from features.sampling.base import Propensity, Sampling


@dataclass(frozen=True, kw_only=True)
class Everything(Sampling):
    """No sampling."""

    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """The window itself."""
        return window
