"""The limits of the gate: what a recipe asks of a new version before anything is scored with it.

They are settings of a recipe and no part of its model: other limits judge anew and train nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from features.errors import UsageError
from features.funnel import Funnel

Outcome = Literal["passed", "warned", "failed", "undecided"]


@dataclass(frozen=True)
class Limit:
    """Where a measurement is told of, and where it keeps the version out; ``None``: nowhere.

    Attributes:
        warn: up to here nothing is said.
        fail: up to here the version passes.

    Raises:
        UsageError: a limit that is no number, so that nothing would ever break it.
    """

    warn: float | None = None
    fail: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("warn", self.warn), ("fail", self.fail)):
            if value is not None and not math.isfinite(value):
                raise UsageError("gate", f"{name}={value} is no limit", "name a number, or None for no limit")

    def outcome(self, measured: float, *, least: bool = False) -> Outcome:
        """What a measurement comes to; exactly the limit is within it.

        Args:
            measured: the number.
            least: the limit is a floor, not a ceiling.
        """
        sign = -1.0 if least else 1.0
        for level, limit in (("failed", self.fail), ("warned", self.warn)):
            if limit is not None and not sign * measured <= sign * limit:
                return level  # type: ignore[return-value]
        return "passed"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is asked of one objective. Drops and rises are against the champion, on the same rows.

    By default nothing absolute keeps a version out: the first days of a line are far off, and nothing else is
    there to score with.

    Attributes:
        auc: of the version itself, at least.
        calibration: factor between predicted and observed, whichever is the larger; at most.
        auc_drop: AUC of the champion less that of the version; at most.
        loss_rise: log loss (of a value: RMSE) over that of the champion, less 1; at most.
        slice_auc_drop: as ``auc_drop``, of a slice of the rows.
        psi: population stability index of the scores against the champion's; at most.
        earlier_auc_drop: as ``auc_drop``, on the rows that the champion learned last. What was learned a day
            ago is always forgotten a little; a day of wrong labels forgets all of it.
        earlier_loss_rise: as ``loss_rise``, on the same rows.
    """

    auc: Limit = Limit(warn=0.5)
    calibration: Limit = Limit(warn=1.25)
    auc_drop: Limit = Limit(warn=0.002, fail=0.01)
    loss_rise: Limit = Limit(warn=0.005, fail=0.05)
    slice_auc_drop: Limit = Limit(warn=0.01)
    psi: Limit = Limit(warn=0.25)
    earlier_auc_drop: Limit = Limit(warn=0.01, fail=0.03)
    earlier_loss_rise: Limit = Limit(warn=0.02, fail=0.1)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What stands between a new version of a line and its scores.

    Attributes:
        limits: of every objective.
        of: other limits of single objectives, by their name.
        least_rows: fresh rows with a final click label below which nothing is decided.
        least_positives: clicks, and rows without one, among them; likewise.
        compared: positives and negatives of an objective, a space and a slice below which their numbers are
            told and hold nobody back: an AUC of 200 positives has a standard error of about 0.02.
        slice_share: share of the rows below which a slice is not looked at.
        most_rows: rows of a set that are scored, spread evenly over it; the rest is left out.
        refuse: a version that is kept out ends the run (E301) and nothing is published for the next day;
            otherwise the champion scores it.
    """

    limits: Limits = Limits()
    of: Mapping[str, Limits] = field(default_factory=dict)
    least_rows: int = 100
    least_positives: int = 30
    compared: int = 200
    slice_share: float = 0.05
    most_rows: int = 200_000
    refuse: bool = False

    def check(self, funnel: Funnel, recipe: str) -> None:
        """Refuse limits of objectives that there are not: nobody would ever be held to them.

        Raises:
            UsageError: names them.
        """
        if unknown := [name for name in self.of if name not in funnel.names]:
            raise UsageError(
                f"recipe {recipe!r}",
                f"its gate has limits of {', '.join(unknown)}, objectives are {', '.join(funnel.names)}",
                "name an objective of the scenario",
            )

    def of_objective(self, name: str) -> Limits:
        """The limits of an objective."""
        return self.of.get(name, self.limits)
