"""One transaction makes staged files live: all of them or none, once, whoever else is writing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from features.delta import open_delta, prepare, settle
from features.errors import Busy
from features.log import LiveFile, Snapshot, remember, snapshot
from features.staging import Staged, StagedFile
from features.tables import Partition, Table

_ATTEMPTS = 200

Change = tuple[Sequence[StagedFile], Sequence[LiveFile]]
"""Files to make live, files to retire."""


def replace(
    folder: Path,
    table: Table,
    staged: Sequence[Staged],
    expected: Mapping[Partition, str | None] | None = None,
) -> Snapshot:
    """Make the staged partitions live in place of what was live in exactly these partitions.

    Partitions that already have the staged key are left alone, so a repeat is a no-op, also after a
    commit that landed although its writer was killed before it knew.

    Args:
        folder: the table's folder.
        table: the table.
        staged: its partitions, each once.
        expected: key that the caller saw live in each partition (``None``: nothing was live).

    Raises:
        Busy: a partition no longer holds what ``expected`` says, or others commit without pause.
        BadWarehouse: the warehouse holds this table with other types or another partitioning.
    """

    def change(live: Snapshot) -> Change:
        stale = [part for part in staged if live.keys(part.partition) != {part.key}]
        for part in stale:
            found = set(live.keys(part.partition))
            if expected is not None and found != {expected.get(part.partition)} - {None}:
                raise Busy(
                    f"{table.name}/{part.partition.folder}",
                    f"another run published {sorted(found)} in the meantime",
                    "look at that run; run again to replace it",
                )
        old = [file for part in stale for file in live.partitions.get(part.partition, ())]
        return _difference([file for part in stale for file in part.files], old)

    return _transact(folder, table, staged, change)


def append(folder: Path, table: Table, staged: Staged) -> Snapshot:
    """Add the staged files to their partition, unless their key is live in it already.

    Raises:
        Busy: others commit without pause.
        BadWarehouse: see `replace`.
    """

    def change(live: Snapshot) -> Change:
        return ([], []) if staged.key in live.keys(staged.partition) else (staged.files, [])

    return _transact(folder, table, [staged], change)


def join(folder: Path, table: Table, staged: Staged, old: Sequence[LiveFile]) -> Snapshot:
    """Put the staged files in the place of the live files of their partition, which hold the same rows.

    Raises:
        Busy: other files than ``old`` are live now.
        BadWarehouse: see `replace`.
    """

    def change(live: Snapshot) -> Change:
        now = live.partitions.get(staged.partition, ())
        if live.keys(staged.partition) == {staged.key}:
            return [], []
        if set(now) != set(old):
            where = f"{table.name}/{staged.partition.folder}"
            raise Busy(where, "rows came in meanwhile", "run it again when no run goes on")
        return _difference(staged.files, now)

    return _transact(folder, table, [staged], change)


def _difference(new: Sequence[StagedFile], old: Sequence[LiveFile]) -> Change:
    """Delta refuses a path that is added and removed at once; one that stays needs neither."""
    kept = {file.path for file in new} & {file.path for file in old}
    return [file for file in new if file.path not in kept], [file for file in old if file.path not in kept]


def _transact(
    folder: Path, table: Table, staged: Sequence[Staged], change: Callable[[Snapshot], Change]
) -> Snapshot:
    """Read, decide, commit; after a conflict begin again with what the other writer left."""
    for attempt in range(_ATTEMPTS):
        delta = open_delta(folder)
        before = snapshot(delta)
        new, old = change(before)
        if not new and not old:
            settle(folder, before.version, before.version)  # its writer may have been killed before it did
            return before
        try:
            ready = prepare(folder, table, delta)
            if ready is not delta:  # made or widened just now: decide about that version
                continue
            _write(ready, table, staged, _actions(new, old))
        except CommitFailedError:
            time.sleep(0.002 * (1 + (attempt + os.getpid()) % 9))  # unequal steps, so that two rivals part
        else:
            ready.update_incremental()
            settle(folder, before.version + 1, ready.version())
            after = snapshot(ready)
            remember(folder, after)
            return after
    raise Busy(table.name, f"other writers won {_ATTEMPTS} times", "run fewer writers of this table at once")


def _actions(new: Sequence[StagedFile], old: Sequence[LiveFile]) -> list[AddAction | RemoveAction]:
    # Wall time: Delta's retention counts from it. No row and no file name depends on it.
    now_ms = time.time_ns() // 1_000_000
    # Row counts only: every reader of ours reads the footers, and wrong minima would lose rows silently.
    added = [
        AddAction(
            str(file.path),
            file.size,
            file.path.partition.values,
            now_ms,
            True,
            json.dumps({"numRecords": file.rows}),
        )
        for file in new
    ]
    removed = [
        RemoveAction(str(file.path), True, now_ms, file.size, dict(file.path.partition.values))
        for file in old
    ]
    return [*added, *removed]


def _write(
    delta: DeltaTable, table: Table, staged: Sequence[Staged], actions: list[AddAction | RemoveAction]
) -> None:
    """Commit explicit additions and removals; one sequence number per partition guards it.

    Delta alone would accept two writers of a partition that is new to both, which doubles it: nothing
    was removed, so nothing conflicts. Two transactions with one application id do conflict.
    """
    guards = [
        Transaction(folder, (delta.transaction_version(folder) or 0) + 1)
        for folder in (part.partition.folder for part in staged)
    ]
    keys = {part.partition.folder: part.key for part in staged}
    delta.create_write_transaction(
        actions,
        "append",
        delta.schema(),
        partition_by=list(table.partition_by),
        commit_properties=CommitProperties(
            custom_metadata={"generations": json.dumps(keys)}, app_transactions=guards
        ),
    )
