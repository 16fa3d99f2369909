"""What can be said of the events in a window, and from which partial states it follows.

Every operation is declared once, with its window. A partial state describes some events of one entity; two
states of disjoint events merge into the state of all of them, in any order and grouping, so that a window
is a merge of the parts inside it. Nothing is ever taken out of a state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Literal, TypeAlias

import polars as pl

Operation: TypeAlias = Literal["count", "sum", "mean", "min", "max", "last", "distinct", "distinct_approx"]
Merge: TypeAlias = Literal["sum", "min", "max", "last", "union", "sketch"]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
#: What orders the events of a ``last``, behind the name of its state: event time, arrival, event id.
ORDER = ("at", "arrived", "id")


@dataclass(frozen=True, kw_only=True)
class State:
    """One column of partial states.

    Attributes:
        merge: how two states become one. ``sum``, ``min`` and ``max`` are numbers; ``last`` is a value with
            three further columns that order it; ``union`` is a sorted list of distinct values; ``sketch``
            is a list as ``features.distinct`` describes it.
        column: value of the events that it describes; ``None`` where they are only counted.
        action: kind of the events; ``None`` for all kinds.
        counts: whether it counts, rows or, with a column, values.
    """

    merge: Merge
    column: str | None = None
    action: str | None = None
    counts: bool = False

    @property
    def name(self) -> str:
        """Name of the column: ``click``, ``price_sum``, ``order_price_max``."""
        named = [part for part in (self.action, self.column) if part is not None]
        if self.counts:
            return "_".join([*named, "n"] if self.column is not None else named or ["event"])
        ending = {"union": "set"}.get(self.merge, self.merge)
        return "_".join([*named, ending])

    @property
    def zero(self) -> bool:
        """Whether no events make it 0 instead of null."""
        return self.merge in ("sum", "union", "sketch")

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in a table of parts."""
        return (self.name, *(f"{self.name}_{part}" for part in ORDER if self.merge == "last"))


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """One operation over the events of a window that ends before an instant t: [t - window, t).

    An event at t - window is in, an event at t is out, since an impression must not count itself. Of no
    events, counts and sums are 0; mean, min, max and last are null. Nulls of the column are not values: only
    ``count`` without a column and ``last`` see their rows. ``last`` is the value of the latest event, null if
    that one's is, by event time, then arrival, then id.

    Attributes:
        entity: what the columns are named after: ``user``.
        operation: ``count`` counts rows, with a column its values; ``distinct`` is exact and keeps the
            values; ``distinct_approx`` keeps a sketch.
        column: the value; none for counting rows.
        action: kind of the events; ``None`` for all kinds.
        window: whole minutes, 1 h to 90 d.

    Raises:
        ValueError: an operation without its column, or a window out of bounds.
    """

    entity: str
    operation: Operation
    column: str | None = None
    action: str | None = None
    window: timedelta

    def __post_init__(self) -> None:
        if self.column is None and self.operation != "count":
            raise ValueError(f"{self.operation} of {self.entity} needs a column.")
        check_window(self.window)

    @property
    def name(self) -> str:
        """``user_price_sum_7d``: entity, action, column, operation, window."""
        parts = (self.entity, self.action, self.column, self.operation, label(self.window))
        return "_".join(part for part in parts if part is not None)

    @property
    def states(self) -> tuple[State, ...]:
        """What it follows from."""
        values = State(merge="sum", column=self.column, action=self.action, counts=True)
        summed = State(merge="sum", column=self.column, action=self.action)
        match self.operation:
            case "count":
                return (values,)
            case "mean":
                return (summed, values)
            case "distinct":
                return (State(merge="union", column=self.column, action=self.action),)
            case "distinct_approx":
                return (State(merge="sketch", column=self.column, action=self.action),)
            case merge:
                return (State(merge=merge, column=self.column, action=self.action),)

    @property
    def default(self) -> int | None:
        """Its value of no events."""
        return 0 if self.operation not in ("mean", "min", "max", "last") else None

    @property
    def range(self) -> tuple[float, float] | None:
        """Least and greatest value that there can be: numbers of events and of values begin at 0."""
        return (0, inf) if self.operation in ("count", "distinct", "distinct_approx") else None

    @property
    def description(self) -> str:
        """Operation, events, entity and window in words."""
        events = f"{self.action} events" if self.action is not None else "events"
        said = {
            "count": "Number",
            "sum": f"Sum of {self.column}",
            "mean": f"Mean {self.column}",
            "min": f"Least {self.column}",
            "max": f"Greatest {self.column}",
            "last": f"Last {self.column}",
            "distinct": f"Number of distinct {self.column}",
            "distinct_approx": f"Estimated number of distinct {self.column}",
        }[self.operation]
        some = f" with {self.column}" if self.operation == "count" and self.column is not None else ""
        return f"{said} of {events}{some} of the {self.entity} over {words(self.window)}."

    @property
    def expr(self) -> pl.Expr:
        """Its value from merged states, columns named as ``merged`` names them."""
        first, *others = (pl.col(merged(state, self.window)) for state in self.states)
        if self.operation == "mean":
            return pl.when(others[0] > 0).then(first / others[0])
        return first


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Smoothed ``action`` events per ``per`` event over a window; ``prior`` without any.

    The estimate is (a + strength * prior) / (n + strength). An ``action`` is capped at ``per``, since an
    orphan (an action whose impression never came) must not make a rate above one.

    Attributes:
        entity: what the column is named after.
        action: kind of the events that are counted.
        per: kind of the events that they follow.
        window: whole minutes, 1 h to 90 d.
        prior: the rate before anything is known, strictly between 0 and 1.
        strength: how many ``per`` events the prior weighs.
    """

    entity: str
    action: str
    per: str
    window: timedelta
    prior: float
    strength: float

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1 or not self.strength > 0:
            raise ValueError(
                f"Rate of {self.action} per {self.per} needs a prior in (0, 1) and a positive strength, "
                f"got {self.prior} and {self.strength}."
            )
        check_window(self.window)

    @property
    def name(self) -> str:
        """``user_click_per_impression_7d``."""
        return f"{self.entity}_{self.action}_per_{self.per}_{label(self.window)}"

    @property
    def states(self) -> tuple[State, ...]:
        """What it follows from."""
        return tuple(State(merge="sum", action=action, counts=True) for action in (self.action, self.per))

    @property
    def default(self) -> float:
        """Its value of no events."""
        return self.prior

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest value that there can be."""
        return (0, 1)

    @property
    def description(self) -> str:
        """Events, entity, window and smoothing in words."""
        return (
            f"{self.action} per {self.per} of the {self.entity} over {words(self.window)}, smoothed by "
            f"{self.strength:g} prior {self.per} events at {self.prior:g}."
        )

    @property
    def expr(self) -> pl.Expr:
        """Its value from merged states."""
        a, n = (pl.col(merged(state, self.window)) for state in self.states)
        return (pl.min_horizontal(a, n) + self.strength * self.prior) / (n + self.strength)


Windowed: TypeAlias = Aggregate | Rate


def merged(state: State, window: timedelta) -> str:
    """Column of a state merged over a window; of a ``union`` or ``sketch`` it holds the number of values."""
    return f"{state.name}_{label(window)}"


def needed(aggregates: Iterable[Windowed]) -> dict[timedelta, tuple[State, ...]]:
    """The states to merge over each window, shortest window first.

    Raises:
        ValueError: two aggregates, or two of their states, would share a column.
    """
    asked = list(aggregates)
    names = [one.name for one in dict.fromkeys(asked)]
    states = list(dict.fromkeys(state for one in asked for state in one.states))
    columns = [column for state in states for column in state.columns]
    if doubled := {name for one in (names, columns) for name in one if one.count(name) > 1}:
        raise ValueError(f"Aggregates share columns {sorted(doubled)}; rename an action or a column.")
    windows = sorted({one.window for one in asked})
    return {
        window: tuple(dict.fromkeys(s for one in asked if one.window == window for s in one.states))
        for window in windows
    }


def label(window: timedelta) -> str:
    """A window in its greatest whole unit: ``7d``, ``36h``, ``70m``.

    >>> label(timedelta(hours=24)), label(timedelta(minutes=70))
    ('1d', '70m')
    """
    unit, letter = next((u, x) for u, x in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")) if not window % u)
    return f"{window // unit}{letter}"


def words(window: timedelta) -> str:
    """The same with a space and the unit's symbol: ``7 d``, ``36 h``, ``70 min``."""
    named = label(window)
    return f"{named[:-1]} {named[-1].replace('m', 'min')}"


def check_window(window: timedelta) -> None:
    """Refuse a window that has no name or no use.

    Raises:
        ValueError: shorter than an hour, longer than 90 days, or no whole minutes.
    """
    if not HOUR <= window <= 90 * DAY or window % MINUTE:
        raise ValueError(f"A window is 1 h to 90 d long, in whole minutes; got {window}.")
