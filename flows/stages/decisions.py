"""Decisions on model versions: the rows of the table ``promotions``, and which of them counts.

A decision is about the version that its day had. Once the day has another version, by a new delivery or
another recipe, the decision is history and that version is judged anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from features.promotion import PROMOTIONS
from flows.house import House

BY_HAND = ("promoted_by_hand", "rolled_back")
#: Who decides if nobody does by hand.
THE_GATE = "gate"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A decision about the version of a day; see the table ``promotions``."""

    day: date
    line: str
    nth: int
    model_version: str
    decision: str
    stands: str | None
    stands_day: date | None
    decided_by: str
    decided_at: datetime
    reason: str

    @property
    def by_hand(self) -> bool:
        """Whether somebody decided, whatever the gate said."""
        return self.decision in BY_HAND


def entries(house: House, line: str, day: date) -> tuple[Entry, ...]:
    """Every decision of a line and day, oldest first."""
    rows = house.store.scan(PROMOTIONS, [day]).filter(pl.col("line") == line).sort("nth").collect()
    renamed = rows.rename({"dt": "day", "stands_dt": "stands_day"})
    return tuple(Entry(**row) for row in renamed.rows(named=True))


def decision_of(told: Sequence[Entry], version: str) -> Entry | None:
    """What counts of the decisions of a day; ``None`` if none is about that version.

    One made by hand counts before any of the gate: other limits do not undo what somebody decided.
    """
    about = [entry for entry in told if entry.model_version == version]
    counting = [entry for entry in about if entry.by_hand] or about
    return counting[-1] if counting else None


def enter(house: House, day: date, told: Iterable[Entry]) -> None:
    """Add decisions of a day to the table, in one commit."""
    names = {"stands_dt": "stands_day"}
    rows = [[getattr(e, names.get(name, name)) for name in PROMOTIONS.schema.names] for e in told]
    if rows:
        types = pl.DataFrame(PROMOTIONS.schema.empty_table()).schema
        house.store.append(PROMOTIONS, day, pl.DataFrame(rows, schema=types, orient="row"))


def first_judged(house: House, line: str) -> date | None:
    """The first day on which a version of a line was decided on; ``None`` if none ever was."""
    told = house.store.scan(PROMOTIONS).filter(pl.col("line") == line).select(pl.col("dt").min())
    first: date | None = told.collect().item()
    return first
