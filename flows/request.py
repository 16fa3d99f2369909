"""What a run was asked for: house, model lines and logical date, from the parameters of a flow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from features.bookkeeping import MODELS, RUNS
from features.errors import FunnelcastError, UsageError
from flows import descendants
from flows import recipes as all_recipes
from flows.day import check_day, pending
from flows.house import House
from flows.settings import Settings
from flows.stages.publish import refresh_catalogue


@dataclass(frozen=True)
class Request:
    """Where to work and on which model lines.

    Attributes:
        house: settings, scenario and store.
        lines: names of the recipes, in the order of the scenario.
    """

    house: House
    lines: tuple[str, ...]

    @classmethod
    def open(
        cls, config: str | None = None, scenario: str | None = None, recipes: Sequence[str] | None = None
    ) -> Request:
        """Resolve the parameters: what was named, else the settings, else all lines of the scenario.

        Raises:
            UsageError: unknown settings, scenario or recipe.
        """
        settings = Settings.load(config)
        house = House.open(settings, scenario)
        named = tuple(dict.fromkeys(recipes or settings.recipes))
        for name in named:
            all_recipes.get(house.scenario.name, name)
        return cls(house, named or all_recipes.names(house.scenario.name))

    def logical_date(self, date: dt.date | None, scheduled: dt.datetime) -> dt.date:
        """The day that a run is about: the one named, else the day before its scheduled instant.

        The schedule is read in the scenario's zone; the wall clock is never asked, so that a late or
        repeated run is about the same day.
        """
        return date or scheduled.astimezone(ZoneInfo(self.house.scenario.zone)).date() - dt.timedelta(days=1)

    def days(self, start: dt.date, end: dt.date) -> tuple[dt.date, ...]:
        """The days of a range, both ends included, oldest first.

        Raises:
            UsageError: the range is empty, or its last day is not over yet.
        """
        if end < start:
            raise UsageError("range", f"{end} is before {start}", "give the first day first")
        check_day(self.house, end)
        return tuple(start + dt.timedelta(days=n) for n in range((end - start).days + 1))

    def stale(self, asked: Iterable[dt.date] | None = None) -> tuple[dt.date, ...]:
        """Days that were run and follow from other inputs now, and those run after them; oldest first.

        Args:
            asked: only of these days; all if ``None``.
        """
        ran = self.ran(asked)
        waiting = {day: pending(self.house, day, self.lines) for day in ran}
        old = descendants.stale(self.house, waiting, self.lines)
        first = next((day for day in ran if waiting[day] or day in old), None)
        return () if first is None else tuple(day for day in ran if day >= first)

    def ran(self, asked: Iterable[dt.date] | None = None) -> tuple[dt.date, ...]:
        """Days of which the ledger has a finished run, oldest first; of these days, or of all."""
        entered = self._entered()
        return tuple(sorted(entered if asked is None else entered & set(asked)))

    def of_trained_lines(self) -> Request:
        """The same for those of the lines that were ever trained: a new line is not stale."""
        trained = tuple(name for name in self.lines if self.house.store.days(MODELS, line=name))
        return replace(self, lines=trained)

    def unfinished(self, days: Iterable[dt.date]) -> tuple[dt.date, ...]:
        """Those of the days on which some stage has not run, would run anew, or is not in the ledger.

        The last case is a run that was killed between its last commit and the ledger.
        """
        entered = self._entered()
        return tuple(day for day in days if day not in entered or pending(self.house, day, self.lines))

    def _entered(self) -> set[dt.date]:
        ledger = self.house.store.scan(RUNS).filter(state="finished").select("dt").unique()
        return set(ledger.collect()["dt"])

    def show(self) -> None:
        """Bring the catalogue up to what is live, in case a run was killed before it did."""
        refresh_catalogue(self.house)


def scheduled_time() -> dt.datetime:
    """Instant for which the current flow run was scheduled; a run by hand is scheduled at its creation."""
    from prefect.runtime import flow_run

    return dt.datetime.fromisoformat(str(flow_run.scheduled_start_time))


def run_name(flow: str) -> Callable[[], str]:
    """A name for runs of ``flow`` that says their day; a template would read ``None`` in scheduled runs."""

    def name() -> str:
        from prefect.runtime import flow_run

        given = flow_run.parameters
        try:
            request = Request.open(given["config"], given["scenario"], given["recipes"])
            day = request.logical_date(given["date"], scheduled_time())
        except FunnelcastError:  # the flow is about to say it better
            return flow
        return f"{flow} {day} {request.house.scenario.name}"

    return name
