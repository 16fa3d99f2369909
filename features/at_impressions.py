"""A windowed view as of each impression's own instant, for training rows of a view that is fresh by event.

What had arrived before the day began is read as the roll-up's parts, whatever of it lies inside the window;
the events of the day itself, and those of the days that the left edge of a window cuts, are read one by one.
Windows of hours are read from events alone, those of the day and of the day before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from features.aggregates import DAY, State
from features.calendar import calendar, day_end, day_start, days_between
from features.partials import values_of
from features.scenario import Rollup, Scenario
from features.seen import Parts
from features.snapshots import asked_of
from features.view import View, Windows
from features.windows import states_at


def days_of_events(source: Windows, scenario: Scenario, day: date) -> tuple[date, ...]:
    """The days of arrival, none after ``day``, whose events are needed one by one for rows of ``day``."""
    first, last = day_start(day, scenario.zone), day_end(day, scenario.zone)
    days = [n * DAY for n in source.days]
    cut = Parts(rows=pl.LazyFrame(), bucket="day", calendar=_calendar(source, scenario, day), until=first)
    happened = {day, *(cut.ragged(days, first, last)["day"] if days else ())}
    if source.hours:
        happened |= set(days_between(day - 2 * DAY, day))
    late = max(one.late_days for one in (scenario.impressions, *scenario.events))
    return tuple(sorted({d for h in happened for d in days_between(h, h + late * DAY) if d <= day}))


def as_of_impressions(
    view: View,
    scenario: Scenario,
    impressions: pl.DataFrame,
    day: date,
    *,
    logs: Mapping[str, pl.LazyFrame],
    rollup: tuple[Rollup, pl.LazyFrame] | None = None,
    hourly: Rollup | None = None,
) -> pl.DataFrame:
    """The view's features at each impression of a day.

    Args:
        view: with windows, and keys that every source tells.
        scenario: the scenario.
        impressions: ``impression_id``, ``exposed_at`` and the view's keys, exposed on ``day``.
        day: the logical day.
        logs: by source, the events that arrived on ``days_of_events``.
        rollup: what the windows of days are made from, with its parts of the arrivals before ``day``.
        hourly: whose states the windows of hours ask for.

    Returns:
        ``impression_id`` and the features, in the order of the rows.

    Raises:
        ValueError: the view asks for what events do not tell one by one.
    """
    source = view.source
    if not isinstance(source, Windows):
        raise ValueError(f"View {view.name!r} has no windows to ask at an instant.")
    asked = asked_of(view, source, None if rollup is None else rollup[0], hourly)
    states = [state for some in asked.values() for state in some]
    events = _events(view, scenario, states, logs)
    found = []
    for whole in (True, False):
        some = {window: told for window, told in asked.items() if (window % DAY == timedelta(0)) is whole}
        parts = None
        if whole and rollup is not None:
            parts = Parts(
                rows=rollup[1],
                bucket="day",
                calendar=_calendar(source, scenario, day),
                until=day_start(day, scenario.zone),
            )
        if some:
            found.append(
                states_at(
                    impressions, events, some, keys=view.keys, at="exposed_at", parts=parts, unique=True
                )
            )
    values = pl.concat([impressions.select("impression_id"), *found], how="horizontal")
    features = [feature.expr.cast(feature.dtype).alias(feature.name) for feature in view.features]
    return values.select("impression_id", *features)


def _calendar(source: Windows, scenario: Scenario, day: date) -> pl.DataFrame:
    """All days on which an event may lie that is read for rows of ``day``."""
    late = max(one.late_days for one in (scenario.impressions, *scenario.events))
    longest = max(source.days, default=1)
    return calendar(days_between(day - (longest + 2 * late + 3) * DAY, day), scenario.zone)


def _events(
    view: View, scenario: Scenario, states: list[State], logs: Mapping[str, pl.LazyFrame]
) -> pl.LazyFrame:
    """All sources as one log with the values that the states need, null where a source has none.

    Raises:
        ValueError: a source does not tell a key, or a state is not of one kind of events.
    """
    followed = {"impression": scenario.impressions, **{source.name: source for source in scenario.events}}
    strange = {state.action for state in states if state.action not in followed}
    untold = {key for key in view.keys for s in followed.values() if key not in s.schema.names}
    if strange or untold:
        raise ValueError(
            f"View {view.name!r} cannot be fresh by event: keys {sorted(untold)} are not in every source, "
            f"counts {sorted(map(str, strange))} are no kind of events, known are {sorted(followed)}."
        )
    values = [name for name in values_of(states) if name not in (*view.keys, "day")]
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
                kind=pl.lit(kind),
                event_id=pl.col(source.key),
                occurred_at=pl.col(at),
            )
        )
    return pl.concat(told, how="diagonal_relaxed")
