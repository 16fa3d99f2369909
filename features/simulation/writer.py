"""The folder of a simulation: its settings, whole days, and rows that wait for their delivery."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Self

import polars as pl

from features.errors import UsageError
from features.lease import lease
from features.simulation.noise import ARRIVES
from features.simulation.settings import SimulationSettings

SETTINGS, LOCK, NEW, LATE = "simulation.json", ".lock", ".new", ".late"
#: In the order in which they become visible; the last one says that the day is whole.
FOLDERS = ("truth", "candidate", "item", "conversion", "click", "exposure")


@dataclass
class Folder:
    """Where a simulation is written, held by this process alone.

    Attributes:
        root: the folder.
    """

    root: Path

    @classmethod
    @contextmanager
    def open(cls, root: Path, settings: SimulationSettings) -> Iterator[Self]:
        """Take the folder for one simulation.

        Raises:
            UsageError: it holds another simulation, or something else.
            Busy: another process writes there.
        """
        root.mkdir(parents=True, exist_ok=True)
        strange = not (root / SETTINGS).exists() and any(
            file.name not in (LOCK, f"{SETTINGS}.new") for file in root.iterdir()
        )
        if strange:
            step = "name an empty folder, or one of the same simulation"
            raise UsageError(str(root), "it is not empty and no simulation wrote it", step)
        with lease(root / LOCK):
            _keep_settings(root, settings)
            shutil.rmtree(root / NEW, ignore_errors=True)  # of a killed run
            try:
                yield cls(root)
            finally:
                shutil.rmtree(root / NEW, ignore_errors=True)

    def has(self, day: date) -> bool:
        """Whether the day is there, whole."""
        return (self.root / FOLDERS[-1] / f"dt={day}").is_dir()

    def begin(self, day: date) -> None:
        """Start a day; nothing of it is visible until ``publish``."""
        shutil.rmtree(self.root / NEW, ignore_errors=True)
        self._forget(self.root / LATE / f"{day}")

    def put(self, source: str, name: str, rows: pl.DataFrame) -> None:
        """Write a file of the day that was begun."""
        _write(self.root / NEW / source / f"{name}.parquet", rows)

    def publish(self, day: date) -> None:
        """Make the day visible, a folder at a time, the exposures last."""
        for source in FOLDERS:
            # what is delivered with a day is about that day, but for the candidates of the next one
            about = day + timedelta(days=1) if source == "candidate" else day
            final = self.root / source / f"dt={about}"
            if not final.is_dir():  # a run that was killed in between left the same bytes
                final.parent.mkdir(exist_ok=True)
                (self.root / NEW / source).rename(final)
        shutil.rmtree(self.root / NEW)

    def wait(self, origin: date, source: str, number: int, rows: pl.DataFrame) -> None:
        """Keep rows of a block of an earlier delivery until theirs."""
        _write(self.root / NEW / LATE / f"{origin}" / source / f"{number:04}.parquet", rows)

    def waited(self, origin: date) -> None:
        """All blocks of the day have handed in what they deliver later."""
        final = self.root / LATE / f"{origin}"
        final.parent.mkdir(exist_ok=True)
        (self.root / NEW / LATE / f"{origin}").rename(final)

    def waits(self, origin: date) -> bool:
        """Whether what the day delivers later is there."""
        return (self.root / LATE / f"{origin}").is_dir()

    def late(self, origin: date, source: str, days: int) -> pl.DataFrame:
        """What a day delivers of a source so many days later."""
        waiting = pl.scan_parquet(self.root / LATE / f"{origin}" / source / "*.parquet")
        return waiting.filter(pl.col(ARRIVES) == days).drop(ARRIVES).collect()

    def forget(self, before: date) -> None:
        """Drop what waited of days before and on this one: all of it is delivered."""
        for folder in (self.root / LATE).iterdir():
            if folder.name <= f"{before}":
                self._forget(folder)

    def _forget(self, folder: Path) -> None:
        if folder.is_dir():
            gone = self.root / NEW / f"gone-{folder.name}"  # so that a half removed folder is never read
            gone.parent.mkdir(exist_ok=True)
            folder.rename(gone)
            shutil.rmtree(gone)


def _keep_settings(root: Path, settings: SimulationSettings) -> None:
    file, text = root / SETTINGS, settings.to_json()
    if not file.exists():
        new = file.with_suffix(".json.new")
        new.write_text(text, "utf-8")
        new.rename(file)
        return
    try:
        found = SimulationSettings.from_json(file.read_text("utf-8"))
    except (ValueError, TypeError, KeyError, UnicodeDecodeError):
        raise UsageError(str(file), "not the settings of a simulation", "name another folder") from None
    other = [
        f"{name} is {getattr(found, name)}, asked {getattr(settings, name)}"
        for name in settings.__dataclass_fields__
        if getattr(found, name) != getattr(settings, name)
    ]
    if other:
        step = "give the same settings to go on, or name another folder"
        raise UsageError(str(root), f"it holds another simulation: {'; '.join(other)}", step)


def _write(file: Path, rows: pl.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(file, compression="zstd", compression_level=1, statistics=False)
