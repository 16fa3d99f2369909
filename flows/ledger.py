"""The ledger: what every run did, in the table ``runs``; it knows nothing of the orchestrator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from features.bookkeeping import RUNS
from features.fingerprint import canonical, fingerprint
from flows import logs
from flows.house import House
from flows.stages.record import StageRecord
from flows.stages.settle import now

_TYPES = pl.Schema(
    {
        "run_key": pl.String(),
        "stage": pl.String(),
        "table": pl.String(),
        "part": pl.String(),
        "generation": pl.String(),
        "state": pl.String(),
        "rows_in": pl.Int64(),
        "rows_out": pl.Int64(),
        "quarantined": pl.Int64(),
        "deduplicated": pl.Int64(),
        "reasons": pl.String(),
        "inputs": pl.String(),
        "notes": pl.String(),
        "started_at": pl.Datetime("us"),
        "seconds": pl.Float64(),
    }
)


def run_key(records: Sequence[StageRecord]) -> str:
    """Hash of everything that a run left live; equal for equal runs."""
    return fingerprint(sorted([r.stage, r.table, r.day.isoformat(), r.part, r.key] for r in records))


def finish(house: House, day: date, records: Sequence[StageRecord]) -> str:
    """Enter a finished run; a run that left nothing live but what is entered already adds nothing.

    Returns:
        The run's key.
    """
    key = run_key(records)
    rows = pl.DataFrame([_row(key, r) for r in records], schema=_TYPES)
    if not _known(house, rows):
        house.store.append(RUNS, day, rows)
    return key


def failed(house: House, day: date, error: BaseException, state: str = "failed") -> None:
    """Enter a run that ended early; what it had committed before stays and is found again.

    Args:
        house: where it ran.
        day: what it was about.
        error: why it ended.
        state: ``failed``, or ``interrupted`` by a signal.
    """
    moment = now()
    row = dict.fromkeys(_TYPES) | {
        "run_key": fingerprint([day, str(error), moment]),
        "stage": "run",
        "state": state,
        "notes": canonical({"error": logs.redact(str(error)), "type": type(error).__name__}),
        "started_at": moment,
    }
    house.store.append(RUNS, day, pl.DataFrame([row], schema=_TYPES))


def _known(house: House, rows: pl.DataFrame) -> bool:
    """Whether runs told of every partition; of samples restated since, the run of a later day did."""
    told = house.store.scan(RUNS).filter(pl.col("state") == "finished")
    return (
        rows.lazy().join(told, on=["stage", "table", "part", "generation"], how="anti").collect().is_empty()
    )


def _row(key: str, record: StageRecord) -> dict[str, object]:
    part = f"{record.day} {record.part}".rstrip()
    return {
        "run_key": key,
        "stage": record.stage,
        "table": record.table,
        "part": part,
        "generation": record.key,
        "state": "finished",
        "rows_in": record.rows_in,
        "rows_out": record.rows_out,
        "quarantined": sum(record.quarantined.values()),
        "deduplicated": record.deduplicated,
        "reasons": canonical(record.quarantined),
        "inputs": canonical(record.inputs),
        "notes": canonical(record.notes),
        "started_at": record.started_at,
        "seconds": record.seconds,
    }
