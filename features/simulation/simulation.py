"""Any day of a simulated funnel, alone and in any order, in memory or as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from features.errors import UsageError
from features.simulation.block import EVENTS, blocks, catalogue
from features.simulation.noise import ARRIVES
from features.simulation.settings import SimulationSettings
from features.simulation.shown import candidates
from features.simulation.writer import Folder

Progress = Callable[[date, int], None]


@dataclass(frozen=True)
class SimulatedDay:
    """What a day brings.

    Attributes:
        logs: by source, the rows that are delivered with the day: ``exposure``, ``click``, ``conversion``
            (late ones of earlier days included), ``item``, and ``candidate`` for the day after.
        truth: of the impressions that were shown on the day; see ``features.simulation``.
    """

    logs: dict[str, pl.DataFrame]
    truth: pl.DataFrame


@dataclass(frozen=True)
class Simulation:
    """A funnel whose truth is known.

    >>> Simulation(SimulationSettings(impressions=1_000)).day(date(2026, 1, 5)).truth.height
    1000

    Attributes:
        settings: all that it follows from, beside the day.
    """

    settings: SimulationSettings

    def day(self, day: date) -> SimulatedDay:
        """A day in memory: its impressions and, for what is delivered late, those of the days before.

        Raises:
            UsageError: the day is before the first one.
        """
        self._check(day)
        truth: list[pl.DataFrame] = []
        parts: dict[str, list[pl.DataFrame]] = {source: [] for source in EVENTS}
        for origin in (day, *self._earlier(day)):
            for one in blocks(self.settings, origin):
                for source, rows in one.logs.items():
                    parts[source].append(_arriving(rows, (day - origin).days))
                if origin == day:
                    truth.append(one.truth)
        logs = {source: pl.concat(found) for source, found in parts.items()}
        logs["item"] = catalogue(self.settings, day)
        logs["candidate"] = pl.concat(candidates(self.settings, day + timedelta(days=1)))
        return SimulatedDay(logs, pl.concat(truth))

    def write(self, folder: Path, days: Iterable[date], progress: Progress | None = None) -> tuple[date, ...]:
        """Write days as ``<source>/dt=<day>/*.parquet`` and ``truth/dt=<day>/*.parquet``.

        The candidates of a day are those of the day after, and lie there: ``candidate/dt=<day + 1>``.
        A day becomes visible when it is whole; one that is there already is left alone, so a killed call is
        repeated to go on. One block is in memory at a time. Rows that a day delivers later wait in
        ``.late`` until then; where they are not there, they are made again.

        Args:
            folder: root of the logs; it is made if it is missing.
            days: logical days, in any order.
            progress: told after each block of a day's own: the day, and its impressions so far.

        Returns:
            The days that were not there and are now.

        Raises:
            UsageError: a day is before the first one, or the folder holds anything but this simulation.
            Busy: another process writes there.
        """
        asked = sorted(set(days))
        for day in asked:
            self._check(day)
        with Folder.open(folder, self.settings) as target:
            missing = [day for day in asked if not target.has(day)]
            for day in missing:
                self._write_day(target, day, progress)
            return tuple(missing)

    def _write_day(self, target: Folder, day: date, progress: Progress | None) -> None:
        target.begin(day)
        written = 0
        for one in blocks(self.settings, day):
            target.put("truth", f"{day}-{one.number:04}", one.truth)
            for source, rows in one.logs.items():
                target.put(source, f"{day}-{one.number:04}", _arriving(rows, 0))
                target.wait(day, source, one.number, rows.filter(pl.col(ARRIVES) > 0))
            written += one.truth.height
            if progress is not None:
                progress(day, written)
        target.waited(day)
        for origin in self._earlier(day):
            if not target.waits(origin):
                for one in blocks(self.settings, origin):
                    for source, rows in one.logs.items():
                        target.wait(origin, source, one.number, rows.filter(pl.col(ARRIVES) > 0))
                target.waited(origin)
            for source in EVENTS:
                late = target.late(origin, source, (day - origin).days)
                if late.height:
                    target.put(source, f"{origin}-late", late)
        target.put("item", f"{day}", catalogue(self.settings, day))
        for number, rows in enumerate(candidates(self.settings, day + timedelta(days=1))):
            target.put("candidate", f"{day}-{number:04}", rows)
        target.publish(day)
        target.forget(day - timedelta(days=self.settings.reach_days))

    def _earlier(self, day: date) -> Iterator[date]:
        """Days from which something may be delivered with this one, oldest first."""
        for back in range(self.settings.reach_days, 0, -1):
            origin = day - timedelta(days=back)
            if origin >= self.settings.start:
                yield origin

    def _check(self, day: date) -> None:
        if day < self.settings.start:
            raise UsageError(
                f"day {day}", f"the simulation begins on {self.settings.start}", "name a later day or start"
            )


def _arriving(rows: pl.DataFrame, days: int) -> pl.DataFrame:
    return rows.filter(pl.col(ARRIVES) == days).drop(ARRIVES)
