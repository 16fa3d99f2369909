"""The one contract of every sampling policy: which rows an objective learns from, and how often.

Shapes: N rows of a window, M rows that are drawn from it, K objectives in the order of the funnel.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import polars as pl

from features.errors import UsageError
from features.funnel import Funnel
from features.hashing import hash_ids

#: Probability per impression that an objective is reached, by rows and the objective's name.
Propensity = Callable[[pl.DataFrame, str], pl.Series]


class Sampling(ABC):
    """Edits the ``trains_*`` masks of rows, drops the rows that then train nothing, and repeats others.

    A decision depends on the seed and the row's ``impression_id`` alone, through a hash: neither on the
    rows around it nor on their order. It reads a label only where a mask says that the label trains, so
    nothing is decided by what may still change. A row keeps its weight in each of its copies.

    Attributes:
        own_space: only methods that learn each objective in its own space may be combined with it.
        needs_propensity: ``sample`` asks for probabilities of the model as it stood before this run.
    """

    own_space: ClassVar[bool] = False
    needs_propensity: ClassVar[bool] = False

    @abstractmethod
    def sample(
        self, window: pl.DataFrame, funnel: Funnel, *, seed: int, propensity: Propensity | None = None
    ) -> pl.DataFrame:
        """The rows to learn from, with the columns of ``window``.

        Args:
            window: samples with ``trains_*`` masks, as ``features.batches.fresh_rows`` gives them.
            funnel: the objectives.
            seed: decides the draws; the same on every day, since the objectives of one impression may
                train on different days.
            propensity: the model as it stood before this run; ``None`` where none came before.
        """

    def check(self, funnel: Funnel, *, own_space: bool) -> None:  # noqa: B027 - most policies have nothing to add
        """Refuse what cannot be meant.

        Args:
            funnel: the objectives.
            own_space: whether the line's method learns each objective in its own space.

        Raises:
            UsageError: naming the policy, what was found and what would do.
        """

    def negative_rates(self, funnel: Funnel) -> tuple[float, ...]:
        """Negatives learned per negative of an objective's own space, over the same of its positives.

        The odds in the sample are those of the logs over this rate. Where a policy changes the odds by
        no such constant, or not at all, it is 1.
        """
        return (1.0,) * len(funnel)


def check_rate(policy: Sampling, name: str, value: float) -> None:
    """Refuse a share that is not in (0, 1].

    Raises:
        UsageError: it is not.
    """
    if not 0 < value <= 1:
        raise UsageError(
            f"sampling {type(policy).__name__}", f"{name} is {value}", "give a number above 0 and up to 1"
        )


def check_objective(
    policy: Sampling, funnel: Funnel, name: str, *, with_parent: bool = False, values: bool = False
) -> None:
    """Refuse an objective that the funnel does not have, or that the policy cannot serve.

    Args:
        policy: who asks.
        funnel: the objectives.
        name: the one that is named.
        with_parent: it must be given another.
        values: it may be a value. A policy that treats positives and negatives apart has no use for one,
            and would move its mean by what no rate of negatives puts right.

    Raises:
        UsageError: naming the objectives that would do.
    """
    known = [
        o.name for o in funnel if (o.given is not None or not with_parent) and (values or o.kind == "binary")
    ]
    if name not in known:
        value = name in funnel.names and funnel[name].kind == "value" and not values
        kind = " that is given another" if with_parent else ""
        raise UsageError(
            f"sampling {type(policy).__name__}",
            f"{name!r} is a value, which has no negatives"
            if value
            else f"{name!r} is no objective of the scenario{kind}",
            f"choose from: {', '.join(known) or 'none'}",
        )


def draws(window: pl.DataFrame, seed: int, stream: str) -> pl.Series:
    """A number in [0, 1) for every row, by its ``impression_id``; uniform over the ids.

    Args:
        window: the rows.
        seed: the seed of the line.
        stream: names what is drawn for: other streams of one seed are independent of it.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    hashed = hash_ids(window["impression_id"], int.from_bytes(digest[:8]))
    # the upper 53 bits: all that a double holds exactly, so that 1 is never reached
    return pl.Series("draw", (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def repeat(window: pl.DataFrame, funnel: Funnel, copies: Mapping[str, pl.Series]) -> pl.DataFrame:
    """Every row as often as the objective asks that asks for it most; the rest of its copies train less.

    Args:
        window: rows with ``trains_*`` masks.
        funnel: the objectives.
        copies: by objective, how often each row is to train it, as numbers or truth values; once for
            objectives that are not named. What it holds where the mask is not set is not looked at.

    Returns:
        Rows in the order of ``window``, the copies of a row side by side. Copy 0 trains every objective
        that asks for the row, copy c those that ask for it more than c times.
    """
    asked_NK = np.zeros((window.height, len(funnel)), dtype=np.int64)
    for k, objective in enumerate(funnel):
        trains_N = window[f"trains_{objective.name}"]
        count_N = copies.get(objective.name, trains_N).cast(pl.Int64)
        asked_NK[:, k] = count_N.zip_with(trains_N, pl.zeros(window.height, pl.Int64, eager=True)).to_numpy()
    times_N = asked_NK.max(axis=1, initial=0)
    row_M = np.repeat(np.arange(window.height), times_N)
    copy_M = np.arange(len(row_M)) - np.repeat(np.cumsum(times_N) - times_N, times_N)
    masks = [
        pl.Series(f"trains_{objective.name}", copy_M < asked_NK[row_M, k])
        for k, objective in enumerate(funnel)
    ]
    return window[row_M].with_columns(masks)
