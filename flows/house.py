"""Everything a stage needs to know about where it works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

from features import scenarios
from features.calendar import day_end, day_start
from features.engine import Limits
from features.errors import UsageError
from features.scenario import Scenario
from features.store import Store
from flows.settings import Settings

PARTIAL = "_partial"
"""Folder below the warehouse where a training writes down how far it came."""


@dataclass(frozen=True)
class House:
    """One scenario in one warehouse.

    Attributes:
        settings: of the installation.
        scenario: what the data means, in the zone of the settings if they name one.
        store: the scenario's tables, in the folder of its name below the warehouse.
    """

    settings: Settings
    scenario: Scenario
    store: Store

    @classmethod
    def open(cls, settings: Settings, scenario: str | None = None) -> House:
        """The house of a scenario, by default that of the settings.

        Raises:
            UsageError: there is no such scenario, or the settings give it no log root.
        """
        declared = scenarios.get(scenario or settings.scenario)
        if settings.time_zone is not None:
            declared = replace(declared, zone=settings.time_zone)
        return cls(settings, declared, Store(settings.warehouse / declared.name))

    @property
    def logs(self) -> Path:
        """Root of the scenario's raw logs.

        Raises:
            UsageError: the settings do not name it.
        """
        name = self.scenario.name
        if name not in self.settings.logs:
            raise UsageError(
                f"scenario {name!r}",
                f"no log root in the settings, known are {', '.join(self.settings.logs) or 'none'}",
                f'set logs.{name} = "..." in funnelcast.toml or FUNNELCAST_LOGS__{name.upper()}',
            )
        return self.settings.logs[name]

    @property
    def limits(self) -> Limits:
        """What one DuckDB connection may use."""
        return Limits(
            memory=self.settings.memory_limit,
            threads=self.settings.threads,
            scratch=self.store.root / "_scratch",
        )

    def shared(self, workers: int) -> House:
        """The same house for one of several workers: its part of the memory and of the threads."""
        told = self.settings
        memory = f"{max(told.memory_bytes // workers, 1)}B"
        update = {"memory_limit": memory, "threads": max(told.threads // workers, 1)}
        return replace(self, settings=told.model_copy(update=update))

    @property
    def catalog(self) -> Path:
        """The file that analysts open."""
        return self.store.root / "catalog.duckdb"

    def day_start(self, day: date) -> datetime:
        """The instant at which a logical day begins, naive UTC."""
        return day_start(day, self.scenario.zone)

    def watermark(self, day: date) -> datetime:
        """The instant up to which a run of this day knows everything: the day's end, naive UTC."""
        return day_end(day, self.scenario.zone)
