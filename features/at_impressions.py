"""A windowed view as of each impression's own instant, for training rows of a view that is fresh by event.

What had arrived before the day began is read as the roll-up's parts, whatever of it lies inside the window;
the events of the day itself, and those of the days that the left edge of a window cuts, are read one by one.
Windows of hours are read from events alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache

import polars as pl

from features.aggregates import DAY, HOUR, State
from features.calendar import calendar, day_end, day_start, days_between
from features.partials import values_of
from features.scenario import Rollup, Scenario
from features.seen import Parts
from features.snapshots import asked_of
from features.view import View, Windows
from features.windows import states_at


def days_of_events(source: Windows, scenario: Scenario, day: date) -> tuple[date, ...]:
    """The days of arrival, none after ``day``, whose events are needed one by one for rows of ``day``."""
    return _days_of_events(tuple(source.days), tuple(source.hours), _late_days(scenario), scenario.zone, day)


@lru_cache(maxsize=4096)  # every plan of samples asks for it
def _days_of_events(
    days: tuple[int, ...], hours: tuple[int, ...], late: int, zone: str, day: date
) -> tuple[date, ...]:
    first, last = day_start(day, zone), day_end(day, zone)
    windows = [*(n * DAY for n in days), *(n * HOUR for n in hours)]
    known = _calendar(days, late, zone, day)
    cut = Parts(rows=pl.LazyFrame(), bucket="day", calendar=known, until=first)
    happened = {day, *cut.ragged(windows, first, last)["day"]}
    return tuple(sorted({d for h in happened for d in days_between(h, h + late * DAY) if d <= day}))


def _calendar(windows: Collection[int], late: int, zone: str, day: date) -> pl.DataFrame:
    """All days on which an event may lie that is read for rows of ``day``, by windows of so many days."""
    longest = max(windows, default=1)
    return calendar(days_between(day - (longest + 2 * late + 3) * DAY, day), zone)


def _late_days(scenario: Scenario) -> int:
    return max(one.late_days for one in (scenario.impressions, *scenario.events))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a windowed view is asked at impressions of a day.

    Attributes:
        view: with windows, and keys that every source tells.
        scenario: the scenario.
        day: the logical day.
        rollup: what the windows of days are made from.
        hourly: whose states the windows of hours ask for.
    """

    view: View
    scenario: Scenario
    day: date
    rollup: Rollup | None = None
    hourly: Rollup | None = None

    @cached_property
    def asked(self) -> dict[timedelta, tuple[State, ...]]:
        """The states that the features are made from, by window."""
        return asked_of(self.view, self._windows, self.rollup, self.hourly)

    def events(self, logs: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
        """All sources as one log with the values that the states need, null where a source has none.

        Args:
            logs: by source, the events that arrived on ``days_of_events``, each once.

        Raises:
            ValueError: a source does not tell a key, or a state is not of one kind of events.
        """
        view, scenario = self.view, self.scenario
        states = [state for some in self.asked.values() for state in some]
        followed = {"impression": scenario.impressions, **{source.name: source for source in scenario.events}}
        strange = {state.action for state in states if state.action not in followed}
        untold = {key for key in view.keys for s in followed.values() if key not in s.schema.names}
        if strange or untold:
            raise ValueError(
                f"View {view.name!r} cannot be fresh by event: keys {sorted(untold)} are not in every "
                f"source, counts {sorted(map(str, strange))} are no kind of events, known are "
                f"{sorted(followed)}."
            )
        values = [name for name in values_of(states) if name not in (*view.keys, "day")]
        ordered = any(state.merge == "last" for state in states)
        told = []
        for kind in dict.fromkeys(state.action for state in states):
            source = followed[kind or "impression"]
            at = "exposed_at" if kind == "impression" else "occurred_at"
            told.append(
                logs[source.name].select(
                    *view.keys,
                    "day",
                    "arrived_at",
                    *(pl.col(n) if n in source.schema.names else pl.lit(None).alias(n) for n in values),
                    # Texts are the dearest to move: without a use for it the id stays where it is.
                    *([pl.col(source.key).alias("event_id")] if ordered else []),
                    kind=pl.lit(kind, dtype=pl.Enum(sorted(followed))),
                    occurred_at=pl.col(at),
                )
            )
        return pl.concat(told, how="diagonal_relaxed")

    def answer(
        self, impressions: pl.DataFrame, events: pl.LazyFrame, parts: pl.LazyFrame | None
    ) -> pl.DataFrame:
        """The view's features, a row for each impression.

        Args:
            impressions: ``exposed_at`` and the view's keys, exposed on the day, of some entities.
            events: of the same entities at least, those that ``events`` tells.
            parts: of the same entities at least, those of ``rollup`` of the arrivals before the day.
        """
        found = []
        for whole in (True, False):
            some = {w: told for w, told in self.asked.items() if (w % DAY == timedelta(0)) is whole}
            of_days = None
            if whole and parts is not None:
                zone, days = self.scenario.zone, self._windows.days
                of_days = Parts(
                    rows=parts,
                    bucket="day",
                    calendar=_calendar(days, _late_days(self.scenario), zone, self.day),
                    until=day_start(self.day, zone),
                )
            if some:
                keys = self.view.keys
                found.append(
                    states_at(
                        impressions, events, some, keys=keys, at="exposed_at", parts=of_days, unique=True
                    )
                )
        features = [feature.expr.cast(feature.dtype).alias(feature.name) for feature in self.view.features]
        return pl.concat(found, how="horizontal").select(features)

    @property
    def _windows(self) -> Windows:
        if not isinstance(self.view.source, Windows):
            raise ValueError(f"View {self.view.name!r} has no windows to ask at an instant.")
        return self.view.source
