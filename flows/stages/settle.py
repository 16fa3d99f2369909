"""Make a partition what its plan says, or find that it is so already."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

from features.errors import BadWarehouse
from features.fingerprint import fingerprint
from features.generation import Generation
from features.parquet import Rows
from features.staging import Staged
from features.store import Store
from features.tables import Table
from flows.stages.record import StageRecord

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A partition and everything that its content depends on.

    Attributes:
        stage: name of the stage.
        table: the table.
        day: logical date of the partition.
        part: line or source of the partition, ``None`` where the table is cut by day alone.
        inputs: what it is made from: generations of tables, hashes of files, code and settings.
    """

    stage: str
    table: Table
    day: date
    part: str | None = None
    inputs: Mapping[str, str]

    @property
    def cuts(self) -> dict[str, str]:
        """Values of the partition columns beside the day."""
        return {} if self.part is None else {self.table.partition_by[1]: self.part}

    @property
    def key(self) -> str:
        """Generation key: equal plans make equal bytes."""
        return fingerprint([self.table.name, self.day, self.part, dict(self.inputs)])


@dataclass(frozen=True, kw_only=True)
class Built:
    """Rows of a partition and the account of how they came about; see ``StageRecord``."""

    rows: Rows
    rows_in: int | None = None
    deduplicated: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)


def live(store: Store, plan: Plan) -> Generation | None:
    """The live generation of the plan's partition if it is the planned one and its files are there."""
    try:
        found = store.generation(plan.table, plan.day, **plan.cuts)
    except BadWarehouse:
        store.snapshot(plan.table)  # a log that cannot be read is not healed by writing to it
        return None
    return found if found is not None and found.key == plan.key else None


def settle(store: Store, plan: Plan, build: Callable[[], Built]) -> StageRecord:
    """Write and commit the planned partition unless it is live already."""
    found = live(store, plan)
    if found is not None:
        return repeated(plan, found)
    started, clock = now(), time.perf_counter()
    built = build()
    (committed,) = store.commit(stage(store, plan, built))
    return finished(plan, committed, started, time.perf_counter() - clock)


def stage(store: Store, plan: Plan, built: Built) -> Staged:
    """Write the planned partition under its final name; it is not live before it is committed."""
    record = account(plan, built)
    with store.stage(plan.table, plan.day, plan.key, record=record, **plan.cuts) as shards:
        shards.write(built.rows)
    return shards.staged


def account(plan: Plan, built: Built) -> dict[str, object]:
    """What goes into the footer of every data file: inputs and counts, no wall time."""
    return {
        "inputs": dict(plan.inputs),
        "rows_in": built.rows_in,
        "deduplicated": built.deduplicated,
        "quarantined": built.quarantined,
        "notes": built.notes,
    }


def repeated(plan: Plan, generation: Generation) -> StageRecord:
    """The record of a partition that was there already."""
    return _record(plan, generation, True, None, None)


def finished(plan: Plan, generation: Generation, started: datetime, seconds: float) -> StageRecord:
    """The record of a partition that was just committed."""
    return _record(plan, generation, False, started, seconds)


def now() -> datetime:
    """Wall time for the ledger, naive UTC; nothing that is computed depends on it."""
    return datetime.now(UTC).replace(tzinfo=None)


@cache
def code(*places: str) -> str:
    """Hash of source files: of the named files and of all Python and SQL files below the named folders.

    What a stage computes depends on these; a change makes its old partitions stale.
    """
    digest = hashlib.sha256()
    for place in places:
        path = _ROOT / place
        files = [path] if path.is_file() else sorted([*path.rglob("*.py"), *path.rglob("*.sql")])
        if not files:
            raise FileNotFoundError(f"No code at {place!r}.")
        for file in files:
            digest.update(file.relative_to(_ROOT).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _record(
    plan: Plan, generation: Generation, again: bool, started: datetime | None, seconds: float | None
) -> StageRecord:
    told = generation.record
    return StageRecord(
        stage=plan.stage,
        table=plan.table.name,
        day=plan.day,
        part=plan.part or "",
        key=generation.key,
        repeated=again,
        rows_in=told["rows_in"],  # type: ignore[arg-type]
        rows_out=generation.rows,
        deduplicated=told["deduplicated"],  # type: ignore[arg-type]
        quarantined=told["quarantined"],  # type: ignore[arg-type]
        inputs=told["inputs"],  # type: ignore[arg-type]
        notes=told["notes"],  # type: ignore[arg-type]
        started_at=started,
        seconds=seconds,
    )
