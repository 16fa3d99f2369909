"""Read the whole warehouse and hold it to what was committed; change nothing.

Read are the live files of every table that lies there, declared or not, every checkpoint that a model row
names, every entry of every log, and the catalogue. Whatever else lies there is told as loose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from features.bookkeeping import MODELS
from features.errors import BadWarehouse, Busy, ChecksumMismatch, FunnelcastError
from features.intact import found_digest, remedy
from features.log import LiveFile, read_log
from features.parquet import read_record
from flows.catalog import FILE, listed_files
from flows.house import PARTIAL, House
from models.manifest import RETIRED, TENSORS, BrokenCheckpoint, examine, told

LOG = "_delta_log"
CHECKPOINTS = "checkpoints"
_OURS = ("_locks", "_staging", "_scratch", PARTIAL, CHECKPOINTS)
Step = Callable[[int, int], None]
"""Told of bytes read so far, and of all bytes that there are to read."""


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was committed.

    Attributes:
        where: file, checkpoint or table.
        found: what is wrong with it.
        remedy: what to do.
        changed: whether its bytes differ; else it is missing, or contradicts something.
    """

    where: str
    found: str
    remedy: str
    changed: bool = False


@dataclass(frozen=True)
class Loose:
    """A file that nothing live refers to: of a replaced day, of a killed run, or somebody else's."""

    path: Path
    size: int
    why: str


@dataclass(frozen=True)
class Verified:
    """What a walk through the warehouse found.

    Attributes:
        tables: tables with a log.
        files: live data files.
        rows: rows in them.
        size: bytes read, of files and checkpoints.
        checkpoints: checkpoints whose tensors are there; those that were retired are not counted.
        faults: everything that is not as it was committed.
        loose: files that nothing refers to, largest first.
        running: a run was going on, so that loose files may be its own.
    """

    tables: int
    files: int
    rows: int
    size: int
    checkpoints: int
    faults: tuple[Fault, ...]
    loose: tuple[Loose, ...]
    running: bool


def verified(house: House, step: Step = lambda done, of: None) -> Verified:
    """Walk through a scenario's warehouse.

    Raises:
        BadWarehouse: there is nothing to walk through.
    """
    root = house.store.root
    if not root.is_dir():
        raise BadWarehouse(str(root), "there is no warehouse", "funnelcast run --date <day>")
    running = _running(house)
    faults: list[Fault] = []
    live: dict[Path, LiveFile] = {}
    folders = tables_below(root)
    for folder in folders:
        faults += _log_faults(folder)
        try:
            live |= {folder / str(file.path): file for file in read_log(folder).files}
        except FunnelcastError as error:
            faults.append(Fault(str(folder), error.found, error.next_step))
    versions, lost = _versions(house)
    faults += lost
    held = [folder for folder in versions if not (folder / RETIRED).exists()]
    weights = {folder: _size(folder / TENSORS) for folder in held}
    total, done = sum(file.size for file in live.values()) + sum(weights.values()), 0
    with ThreadPoolExecutor(house.settings.threads) as pool:
        for file, fault in pool.map(lambda item: (item[1], _judged(*item)), live.items()):
            done += file.size
            step(done, total)
            faults += [fault] if fault else []
    for folder in versions:
        faults += _checkpoint_faults(folder)
        done += weights.get(folder, 0)
        step(done, total)
    faults += _catalogue_faults(house, set(live), running)
    return Verified(
        tables=len(folders),
        files=len(live),
        rows=sum(file.rows for file in live.values()),
        size=total,
        checkpoints=len(held),
        faults=tuple(faults),
        loose=tuple(sorted(loose(root, set(live), set(versions)), key=lambda one: (-one.size, one.path))),
        running=running,
    )


def refuse(found: Verified) -> None:
    """End in an error if the walk found a fault.

    Raises:
        ChecksumMismatch: bytes have changed.
        BadWarehouse: something is missing or contradicts something.
    """
    if not found.faults:
        return
    first = next((fault for fault in found.faults if fault.changed), found.faults[0])
    more = f" (and {len(found.faults) - 1} more)" if len(found.faults) > 1 else ""
    kind = ChecksumMismatch if first.changed else BadWarehouse
    raise kind(first.where, f"{first.found}{more}", first.remedy)


def tables_below(root: Path) -> list[Path]:
    """Folders of all tables of a warehouse, sorted; links are not followed."""
    found = []
    for folder, names, _ in os.walk(root):
        if LOG in names:
            found.append(Path(folder))
            names.clear()
        elif Path(folder) == root:
            names[:] = [name for name in names if name not in _OURS]
    return sorted(found)


def loose(root: Path, live: set[Path], versions: set[Path]) -> Iterator[Loose]:
    """Everything below the warehouse that neither a log nor a model row refers to."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        if here == root:
            names[:] = [name for name in names if name != "_locks"]
        elif here.name == LOG or here in versions:
            names.clear()
            continue
        for name in [*files, *(name for name in names if (here / name).is_symlink())]:
            path = here / name
            if path in live or path == root / FILE:
                continue
            yield Loose(path, path.lstat().st_size, _why(root, path))


def _why(root: Path, path: Path) -> str:
    top = path.relative_to(root).parts[0]
    if path.is_symlink():
        inside = path.resolve().is_relative_to(root)
        return "a link" if inside else f"a link out of the warehouse, to {path.resolve()}"
    if top in ("_staging", "_scratch"):
        return "scratch of a run"
    if top == PARTIAL:
        return "where a training that was killed goes on"
    if top == CHECKPOINTS:
        return "a checkpoint that no version refers to"
    return "of a replaced or unfinished day" if path.suffix == ".parquet" else "not of this store"


def _judged(path: Path, file: LiveFile) -> Fault | None:
    """Why a live file is not what was committed; ``None`` if it is."""
    step = remedy(file.path.partition.folder)
    try:
        size = path.stat().st_size
        if size != file.size:
            return Fault(str(path), f"{size} bytes, committed {file.size}", step, changed=True)
        if (digest := found_digest(path)) != file.path.digest:
            return Fault(str(path), f"sha256 {digest}, committed {file.path.digest}", step, changed=True)
        rows = pq.read_metadata(path).num_rows
        read_record(path)
    except FileNotFoundError:
        # It may have been replaced and removed since the log was read.
        folder = path.parents[len(file.path.partition.values)]
        return None if file not in read_log(folder).files else Fault(str(path), "is missing", step)
    except (OSError, pa.ArrowException, BadWarehouse) as error:
        return Fault(str(path), f"cannot be read: {error}", step)
    return Fault(str(path), f"{rows} rows, committed {file.rows}", step) if rows != file.rows else None


def _log_faults(folder: Path) -> Iterator[Fault]:
    """Entries that are missing or torn: the newest checkpoint may hide what history needs."""
    entries = sorted((folder / LOG).glob("*.json"))
    for number, entry in enumerate(entries):
        if entry.name != f"{number:020d}.json":
            step = "restore it; the history is the lineage"
            yield Fault(str(entry.parent), f"entry {number} is missing", step)
            return
        try:
            for line in entry.read_text("utf-8").splitlines():
                json.loads(line)
        except (OSError, ValueError) as error:
            yield Fault(str(entry), f"torn or changed ({error})", "restore it from a copy", changed=True)


def _versions(house: House) -> tuple[list[Path], list[Fault]]:
    """Folders of the checkpoints that live model rows name, and rows that name what is no place for one."""
    try:
        rows = house.store.scan(MODELS).select("dt", "line", "checkpoint").collect().rows()
    except FunnelcastError:  # told as a fault of that file
        return [], []
    home = house.store.root / CHECKPOINTS
    found: list[Path] = []
    faults: list[Fault] = []
    for day, line, text in rows:
        folder = house.store.root / text
        if folder.resolve().is_relative_to(home):
            found.append(folder)
        else:
            step = f"remove models/dt={day}/line={line} and run that day again"
            faults.append(Fault(f"model {line} of {day}", f"its checkpoint {text!r} lies elsewhere", step))
    return sorted(set(found)), faults


def _checkpoint_faults(folder: Path) -> Iterator[Fault]:
    step = f"restore {folder}, or remove it and run its day again"
    try:
        if (folder / RETIRED).exists() and not (folder / TENSORS).exists():
            told(folder)
        else:
            examine(folder)
    except BrokenCheckpoint as error:
        yield Fault(str(folder), str(error).rstrip("."), step, changed=True)
    except OSError as error:
        yield Fault(str(folder), str(error).rstrip("."), step)


def _catalogue_faults(house: House, live: set[Path], running: bool) -> Iterator[Fault]:
    """Files that the catalogue's views name and that are gone, or are not live any more."""
    step = "run or backfill any finished day: that writes the catalogue anew"
    if not house.catalog.exists():
        if live and not running:
            yield Fault(str(house.catalog), "is missing", step)
        return
    try:
        named = listed_files(house.catalog)
    except duckdb.Error as error:
        yield Fault(str(house.catalog), f"cannot be read ({str(error).splitlines()[0]})", step)
        return
    gone = sorted(path for path in named if not path.exists())
    old = sorted(named - live)
    if gone:
        yield Fault(str(house.catalog), f"names {len(gone)} files that are gone, first {gone[0]}", step)
    elif old and not running:
        yield Fault(str(house.catalog), f"names {len(old)} files that are not live, first {old[0]}", step)


def _running(house: House) -> bool:
    try:
        with house.store.lease("run"):
            return False
    except Busy:
        return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
