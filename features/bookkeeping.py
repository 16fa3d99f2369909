"""The tables that every scenario has: ledger, models, metrics, calibration, id maps, quarantine.

Those of the gate are in ``features.promotion``.
"""

from __future__ import annotations

import pyarrow as pa

from features.id_maps import MAP_SCHEMA
from features.scenario import TIMESTAMP
from features.tables import Table, arrow_schema

_DT = "Logical date, in the scenario's time zone."
_LINE = "Model line, the name of its recipe."

QUARANTINE = Table(
    name="quarantine",
    schema=pa.schema([("reason", pa.string()), ("row_text", pa.string())]),
    partition_by=("dt", "origin"),
    sort_by=("reason", "row_text"),
    description="Rows that were kept out, one each, with the reason; dt is the day of delivery.",
    columns={
        "dt": "Logical date of the delivery.",
        "origin": "Stage and source: read.X was refused on arrival, label.X is an event of no impression.",
        "reason": "Reason code, explained in the README.",
        "row_text": "The row as it was delivered.",
    },
)

ID_MAPS = Table(
    name="id_maps",
    schema=arrow_schema(MAP_SCHEMA),
    sort_by=("vocabulary", "id_int", "id_text", "edge"),
    description="Id maps after a day: which id owns which embedding row of its vocabulary; dt is the day.",
    columns={
        "dt": _DT,
        "vocabulary": "Name of the vocabulary; features may share one.",
        "id_int": "The id, where ids are integers.",
        "id_text": "The id, where ids are text.",
        "edge": "Lower edge of a learned bin, in the unit of the feature; such an entry has no id.",
        "row": "Row within the vocabulary; null until the id is admitted. 0 is missing, 1 is unknown.",
        "row_since": "Day on which it got the row; the embedding row began anew on that day.",
        "count": "Impressions with this id since first_seen; of a bin, values on the day it was learned.",
        "first_seen": "First day with this id, since it was last forgotten.",
        "last_seen": "Latest day with this id.",
    },
)

MODELS = Table(
    name="models",
    schema=pa.schema(
        [
            ("model_version", pa.string()),
            ("parent_version", pa.string()),
            ("watermark", TIMESTAMP),
            ("trained_since", TIMESTAMP),
            ("rows", pa.int64()),
            ("steps", pa.int64()),
            ("parameters", pa.int64()),
            ("id_maps_key", pa.string()),
            ("feature_set", pa.string()),
            ("features", pa.string()),
            ("recipe", pa.string()),
            ("inputs", pa.string()),
            ("losses", pa.string()),
            ("checkpoint", pa.string()),
        ]
    ),
    partition_by=("dt", "line"),
    description="Model versions, one per day and line; each learned one run's rows on top of its parent.",
    columns={
        "dt": "Logical date up to which the model has learned.",
        "line": _LINE,
        "model_version": "Hash of parent, inputs, recipe and code.",
        "parent_version": "Version that the training started from; null for the first.",
        "watermark": "Labels final by this instant (UTC) have been learned.",
        "trained_since": "Labels final by this instant had been learned before.",
        "rows": "Rows learned; copies that a sampling policy makes, repeated passes and replay included.",
        "steps": "Updates.",
        "parameters": "Trainable numbers.",
        "id_maps_key": "Generation of the id maps that the model reads ids with.",
        "feature_set": "Name and hash of the features that it was trained on.",
        "features": "These features in order, each with its view, the view's version and encoding, JSON.",
        "recipe": "Every setting of the line, JSON.",
        "inputs": "Generations of the tables that were read, JSON.",
        "losses": "Mean training loss per objective, JSON.",
        "checkpoint": "Folder of weights and optimiser state, below the warehouse.",
    },
)

METRICS = Table(
    name="metrics_daily",
    schema=pa.schema(
        [
            ("model_version", pa.string()),
            ("objective", pa.string()),
            ("space", pa.string()),
            ("slice", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("rows", pa.int64()),
            ("positives", pa.int64()),
            ("state", pa.string()),
        ]
    ),
    partition_by=("dt", "line"),
    description="Prequential metrics: the model as it stood before the day, scored on the day's rows.",
    columns={
        "dt": "Logical date of the rows (of the run in which their labels became final).",
        "line": _LINE,
        "model_version": "Version that was evaluated: the one trained up to the day before; of conversions "
        "that a line reads while they may still come, the newest that had read none of these rows.",
        "objective": "What was predicted.",
        "space": "impressions: joint probability, or value per impression, all rows; given_X: conditional, "
        "rows where X happened; conditional_over_impressions: conditional probability, all rows.",
        "slice": "all, or a part of the rows: users or items that the model did not know; decile_N: the Nth "
        "tenth of the space's rows by rising score, decile_10 the highest; pass_N: all rows, by the model as "
        "it stood after its Nth pass over its newest day (where epochs_per_day is above 1).",
        "metric": "auc, gauc (mean over users, weighted by impressions), gauc_unweighted, ks (largest true "
        "less false positive rate), log_loss, normalized_entropy, pcoc (predicted over observed), ece (mean "
        "gap of predicted and observed rate, 15 bins of equal rows); pcoc_cal, log_loss_cal, ece_cal: after "
        "calibration as it was known before the day; of a value: rmse, mae (its unit), pcoc.",
        "value": "Null where the rows do not define it, such as an AUC without positives.",
        "rows": "Rows behind the value.",
        "positives": "Rows with a positive label; of a value, rows where it is not 0.",
        "state": "final: the labels can no longer change.",
    },
)

_SCORE = {
    "objective": "What was predicted.",
    "space": "impressions: joint probability, all rows; given_X: conditional, rows where X happened.",
    "score": "Column of the table scores that it speaks of.",
}

CALIBRATION = Table(
    name="calibration_daily",
    schema=pa.schema(
        [
            ("model_version", pa.string()),
            ("objective", pa.string()),
            ("space", pa.string()),
            ("score", pa.string()),
            ("bin", pa.int32()),
            ("rows", pa.int64()),
            ("positives", pa.int64()),
            ("predicted", pa.float64()),
        ]
    ),
    partition_by=("dt", "line"),
    sort_by=("score", "bin"),
    description="Predictions of the model as it stood before the day and what then happened, by score column "
    "and bin: what calibrators are fitted to.",
    columns={
        "dt": "Logical date of the rows (of the run in which their labels became final).",
        "line": _LINE,
        "model_version": "Version that predicted: the one trained up to the day before.",
        **_SCORE,
        "bin": "floor(16 ln(p / (1 - p))) + 256 of the predicted probability p, from 0 to 511.",
        "rows": "Rows whose prediction lies in the bin.",
        "positives": "Rows with a positive label among them.",
        "predicted": "Sum of their predicted probabilities.",
    },
)

CALIBRATORS = Table(
    name="calibrators",
    schema=pa.schema(
        [
            ("calibrator_version", pa.string()),
            ("objective", pa.string()),
            ("space", pa.string()),
            ("score", pa.string()),
            ("method", pa.string()),
            ("share", pa.float64()),
            ("raw", pa.list_(pa.float64())),
            ("calibrated", pa.list_(pa.float64())),
            ("days", pa.int32()),
            ("rows", pa.int64()),
            ("positives", pa.int64()),
            ("predicted", pa.float64()),
        ]
    ),
    partition_by=("dt", "line"),
    sort_by=("score",),
    description="Curves from predicted to calibrated probabilities, one a day, line and score column.",
    columns={
        "dt": "Newest logical date of the evidence; the scores of the day after are calibrated by them.",
        "line": _LINE,
        "calibrator_version": "Hash of the evidence, the recipe's setting and the code; that of the scores.",
        **_SCORE,
        "method": "isotonic, platt; identity where positives or negatives, or days to try curves on, are too "
        "few; withheld where no correction would have been best on those days.",
        "share": "Share of the fitted correction, in logits, that the curve applies.",
        "raw": "Predicted probabilities at the knots; the curve is a straight line between them, from (0, 0) "
        "before the first and to (1, 1) after the last. No knot: nothing is changed.",
        "calibrated": "What these become.",
        "days": "Days that the evidence is of.",
        "rows": "Rows that it is fitted to.",
        "positives": "Rows with a positive label among them.",
        "predicted": "Sum of their predicted probabilities.",
    },
)

RUNS = Table(
    name="runs",
    schema=pa.schema(
        [
            ("run_key", pa.string()),
            ("stage", pa.string()),
            ("table", pa.string()),
            ("part", pa.string()),
            ("generation", pa.string()),
            ("state", pa.string()),
            ("rows_in", pa.int64()),
            ("rows_out", pa.int64()),
            ("quarantined", pa.int64()),
            ("deduplicated", pa.int64()),
            ("reasons", pa.string()),
            ("inputs", pa.string()),
            ("notes", pa.string()),
            ("started_at", TIMESTAMP),
            ("seconds", pa.float64()),
        ]
    ),
    description="The ledger: one row per run and table that it wrote, with counts, inputs and time.",
    columns={
        "dt": "Logical date that the run was about.",
        "run_key": "Hash of all generations of the run; equal runs have equal keys.",
        "stage": "read, view, sample, validate, train, gate, calibrate, score or publish; or override.",
        "table": "Table that the stage wrote.",
        "part": "Partition that it wrote: its day and, where there is one, its line or source.",
        "generation": "Key of what it wrote; file names begin with it.",
        "state": "finished, failed, interrupted; accepted: an override.",
        "rows_in": "Rows read; null where rows are not passed on one by one.",
        "rows_out": "Rows written.",
        "quarantined": "Rows kept out.",
        "deduplicated": "Rows dropped as copies.",
        "reasons": "Quarantined rows by reason, JSON.",
        "inputs": "Generations that were read, JSON.",
        "notes": "Whatever else the stage has to say, JSON; the error of a failed run.",
        "started_at": "Start of the stage, UTC; null where an interrupted run had written it.",
        "seconds": "Duration; null where an interrupted run had written it.",
    },
)
