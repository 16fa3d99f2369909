"""The tables of the gate: what every new version was asked, and which version stands after a day."""

from __future__ import annotations

import pyarrow as pa

from features.scenario import TIMESTAMP
from features.tables import Table

_LINE = "Model line, the name of its recipe."

GATE = Table(
    name="gate",
    schema=pa.schema(
        [
            ("model_version", pa.string()),
            ("champion_version", pa.string()),
            ("check", pa.string()),
            ("objective", pa.string()),
            ("space", pa.string()),
            ("slice", pa.string()),
            ("over", pa.string()),
            ("rows", pa.int64()),
            ("positives", pa.int64()),
            ("value", pa.float64()),
            ("champion_value", pa.float64()),
            ("measured", pa.float64()),
            ("warn_limit", pa.float64()),
            ("fail_limit", pa.float64()),
            ("outcome", pa.string()),
        ]
    ),
    partition_by=("dt", "line"),
    description="The gate: one row per check of a new version, beside the version that it would replace.",
    columns={
        "dt": "Logical date of the version.",
        "line": _LINE,
        "model_version": "The version that was judged.",
        "champion_version": "The version that stood before; null on a line's first day.",
        "check": "scores (rows with an impossible number), evidence (rows, or the rarer class of the click), "
        "auc, calibration (factor between predicted and observed), auc_drop, log_loss_rise, rmse_rise, psi.",
        "objective": "What was predicted; empty where all of it is meant.",
        "space": "As in metrics_daily; empty where all of it is meant.",
        "slice": "all, or users or items that the champion did not know (without one: the version itself).",
        "over": "fresh: rows that the version has just learned and the champion has not seen; earlier: rows "
        "that the champion learned on its last day, and so did the version, before.",
        "rows": "Rows behind the numbers; of large days, every n-th.",
        "positives": "Rows with a positive label; of a value, rows where it is not 0.",
        "value": "The version's number.",
        "champion_value": "The champion's, on the same rows.",
        "measured": "What was held to the limits: the value, or what it lost against the champion.",
        "warn_limit": "Beyond it the check is warned of.",
        "fail_limit": "Beyond it the version is kept out.",
        "outcome": "passed, warned, failed, or undecided: too few positives, or the number is not defined.",
    },
)

PROMOTIONS = Table(
    name="promotions",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("nth", pa.int64()),
            ("model_version", pa.string()),
            ("decision", pa.string()),
            ("stands", pa.string()),
            ("stands_dt", pa.date32()),
            ("decided_by", pa.string()),
            ("decided_at", TIMESTAMP),
            ("reason", pa.string()),
        ]
    ),
    description="Decisions on model versions, one row each, never changed: which version stands after a day.",
    columns={
        "dt": "Logical date of the version that was decided on.",
        "line": _LINE,
        "nth": "Place among the decisions of this line and day, from 0; the newest one about the day's "
        "version counts, and one made by hand before those of the gate.",
        "model_version": "The day's version.",
        "decision": "promoted, rejected or insufficient (too few rows to judge) by the gate; "
        "promoted_by_hand or rolled_back by somebody.",
        "stands": "The version that stands from then on: scores are made with it, and the next day trains "
        "from it; null if none stands.",
        "stands_dt": "Its logical date.",
        "decided_by": "gate, or the user's name.",
        "decided_at": "When, UTC.",
        "reason": "Why, in a sentence.",
    },
)
