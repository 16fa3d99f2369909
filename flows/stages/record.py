"""What a stage has to say of one partition that it wrote, or found written."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One partition of one stage.

    Rows in = rows out + quarantined + deduplicated, where rows are passed on one by one.

    Attributes:
        stage: name of the stage.
        table: name of the table.
        day: logical date of the partition.
        part: line or source of the partition, empty where there is none.
        key: generation that is live now.
        repeated: true if it was there already and nothing was done.
        rows_in: rows read; ``None`` where rows are not passed on one by one.
        rows_out: rows written.
        deduplicated: rows dropped as copies.
        quarantined: rows kept out, by reason.
        inputs: generations that were read, by ``table day [part]``.
        notes: whatever else there is to say.
        started_at: naive UTC; ``None`` if repeated.
        seconds: duration; ``None`` if repeated.
    """

    stage: str
    table: str
    day: date
    part: str = ""
    key: str
    repeated: bool
    rows_in: int | None
    rows_out: int
    deduplicated: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)
    started_at: datetime | None = None
    seconds: float | None = None
