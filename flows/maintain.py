"""Remove what is over: files of replaced days, debris of killed runs, old weights; join the ledger's files.

What stays is decided first, from the logs and the model rows. Of the rest, only files with a name that we
give go; the reasons are in docs/decisions/0011-maintenance.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from features.bookkeeping import RUNS
from features.errors import BadWarehouse
from features.log import DataPath, read_log
from features.parquet import sync
from features.past import past
from features.staging import STAGING, sweep
from flows.catalog import listed_files
from flows.house import PARTIAL, House
from flows.living import Living, living
from flows.stages.publish import refresh_catalogue
from flows.verify import CHECKPOINTS, tables_below
from models.manifest import RETIRED, TENSORS

GRACE = timedelta(days=7)
DEBRIS_AGE = timedelta(days=1)
CROWD = 8


@dataclass(frozen=True)
class Keep:
    """How much of the past stays.

    Attributes:
        days: of each of the newest so many days with a version, the last version stays readable.
        weeks: the same of ISO weeks.
        grace: what was replaced or written less than this ago stays in any case: somebody may read it.
    """

    days: int = 7
    weeks: int = 4
    grace: timedelta = GRACE


@dataclass(frozen=True)
class Removal:
    """A file or folder that goes, its bytes, and why."""

    path: Path
    size: int
    why: str


@dataclass(frozen=True)
class Maintained:
    """What was done, or would be.

    Attributes:
        removed: what went.
        joined: days of the ledger whose files were joined, with their number before.
        kept_bytes: bytes of data files that are not live and stay: kept versions, pins, grace.
    """

    removed: tuple[Removal, ...]
    joined: tuple[tuple[date, int], ...]
    kept_bytes: int


def maintained(house: House, keep: Keep, *, dry_run: bool, now: datetime | None = None) -> Maintained:
    """Bring a warehouse down to what is live, kept or pinned; readers may read, no run may go on.

    Args:
        house: the warehouse.
        keep: how much of the past stays.
        dry_run: change nothing.
        now: wall time, naive UTC, for ages only.

    Raises:
        Busy: a run is going on.
        BadWarehouse: there is no warehouse, or a log or model row cannot be read; nothing was removed.
    """
    root = house.store.root
    if not root.is_dir():
        raise BadWarehouse(str(root), "there is no warehouse", "funnelcast run --date <day>")
    moment = now or datetime.now(UTC).replace(tzinfo=None)
    with house.store.lease("run"):
        crowded = tuple(_crowded(house))
        if not dry_run:
            for day, _ in crowded:
                house.store.join(RUNS, day)
            refresh_catalogue(house)  # nobody who opens it from now on is led to what goes
        found = living(house, keep.days, keep.weeks)
        shown = listed_files(house.catalog) if house.catalog.exists() else set()
        removed: list[Removal] = []
        kept_bytes = 0
        for folder in tables_below(root):
            gone, kept = _superseded(folder, keep, moment, found.inputs, shown)
            removed += gone
            kept_bytes += kept
        removed += _weights(house, keep, moment, found)
        removed += _debris(root, moment)
        if not dry_run:
            for removal in removed:
                _remove(root, removal)
            if (root / STAGING).is_dir():
                sweep(root / STAGING)
    return Maintained(tuple(removed), crowded, kept_bytes)


def _superseded(
    folder: Path, keep: Keep, now: datetime, pins: frozenset[str], shown: set[Path]
) -> tuple[list[Removal], int]:
    """Data files of a table that no live or kept version holds; and the bytes of those that stay."""
    told = past(folder)
    live = {str(file.path) for file in read_log(folder).files}
    versions = told.kept(keep.days, keep.weeks)
    gone: list[Removal] = []
    kept = 0
    for path in folder.rglob("*.parquet"):
        name = path.relative_to(folder).as_posix()
        if name in live or path.is_symlink() or not path.is_file():
            continue
        try:
            key = DataPath.parse(name).key
        except ValueError:  # not ours to remove
            continue
        size, written = path.stat().st_size, _modified(path)
        removed_at = max((s.removed_at for s in told.spans.get(name, ()) if s.removed_at), default=written)
        spared = key in pins or path in shown or told.holds(name, versions)
        if spared or now - max(removed_at, written) < keep.grace:
            kept += size
        else:
            gone.append(Removal(path, size, "replaced" if name in told.spans else "never committed"))
    return gone, kept


def _weights(house: House, keep: Keep, now: datetime, found: Living) -> Iterator[Removal]:
    """Tensors of versions that are over, and checkpoints that no version refers to."""
    for line in sorted((house.store.root / CHECKPOINTS).glob("*")):
        for folder in sorted(line.glob("[!.]*")):
            if folder.is_symlink() or not folder.is_dir() or folder in found.checkpoints:
                continue
            if now - _modified(folder) < keep.grace:
                continue
            tensors = folder / TENSORS
            if folder not in found.named:
                yield Removal(folder, _bytes(folder), "checkpoint of no version")
            elif tensors.is_file():
                yield Removal(tensors, tensors.stat().st_size, "weights of an old version")


def _debris(root: Path, now: datetime) -> Iterator[Removal]:
    """What killed runs left: scratch of DuckDB and of samples, half-written checkpoints and trainings."""
    places = [*(root / "_scratch").glob("*"), *(root / CHECKPOINTS).glob("*/.*"), *(root / PARTIAL).glob("*")]
    for path in sorted(places):
        if not path.is_symlink() and now - _modified(path) > DEBRIS_AGE:
            yield Removal(path, _bytes(path), "left by a killed run")
    for path in sorted((root / STAGING).glob("*")):
        if path.is_dir() and not path.with_suffix(".lock").exists():  # the others are swept by their locks
            yield Removal(path, _bytes(path), "left by a killed run")


def _remove(root: Path, removal: Removal) -> None:
    """Remove one thing that lies in the warehouse for certain; a crash in between loses nothing."""
    path = removal.path
    if not path.parent.resolve().is_relative_to(root):
        raise BadWarehouse(str(path), "lies outside the warehouse", "remove the link")
    if path.name == TENSORS:
        (path.parent / RETIRED).touch()
        sync(path.parent)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _crowded(house: House) -> Iterator[tuple[date, int]]:
    """Days of the ledger with many small files; all other tables are written one file a partition."""
    for day, files in house.store.snapshot(RUNS).by_day.items():
        if len(files) >= CROWD:
            yield day, len(files)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC).replace(tzinfo=None)


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum((Path(at) / name).lstat().st_size for at, _, names in os.walk(path) for name in names)
