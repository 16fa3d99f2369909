"""Score rows with the model as it stood before it learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.batches import blocks, stretches, targets
from features.bookkeeping import METRICS
from flows.house import House
from flows.stages.calibrate import Calibrator
from flows.stages.encode import encoder_of
from flows.stages.settle import Built
from flows.stages.version import Version
from models.calibration.scores import calibrated
from models.line import Line
from models.metrics import Metric
from models.metrics import evaluate as measure
from models.metrics.calibrated import after_calibration, by_tenth
from models.score import score_arrays

_BLOCK = 65_536
_SCHEMA = {
    "model_version": pl.String(),
    "objective": pl.String(),
    "space": pl.String(),
    "slice": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "rows": pl.Int64(),
    "positives": pl.Int64(),
    "state": pl.String(),
}


@dataclass(frozen=True)
class Scored:
    """Rows as a version scores them.

    Attributes:
        version: what scored them; ``None`` on a line's first day.
        rows: labels ``y`` and masks ``trains`` (B, K), scores and ``unknown_*`` by name, ``user`` and
            ``exposed_at`` (B,); ``None`` where there is no version, or no row.
    """

    version: Version | None
    rows: Mapping[str, np.ndarray] | None


def score_rows(house: House, line: Line, version: Version | None, rows: pl.LazyFrame) -> Scored:
    """Labels and scores of every row.

    Rows are encoded with the id maps that the model knew: an id that is new today is unknown, as it was
    when yesterday's scores were published. A block is encoded at a time; what is kept of every row are its
    labels, probabilities and user, since an exact AUC ranks them all.

    Args:
        house: where to work.
        line: the model as ``version`` left it.
        version: what is evaluated; ``None`` on a line's first day.
        rows: as ``features.batches.fresh_rows`` gives them.
    """
    if version is None:
        return Scored(None, None)
    encoder = encoder_of(house, version.day, version.id_maps_key)
    columns = [column.name for column in house.scenario.funnel.score_columns]
    parts: list[dict[str, np.ndarray]] = []
    for block in blocks(stretches(rows), _BLOCK):
        arrays = encoder.encode(block)
        scored = score_arrays(line, arrays)
        unknown = {f"unknown_{key}": mask for key, mask in encoder.unknown_keys(arrays).items()}
        known = {name: scored[name] for name in columns}
        keys = {"user": block["user_id"].to_numpy(), "exposed_at": block["exposed_at"].to_numpy()}
        told = targets(block, house.scenario)
        parts.append({"y": told["y"], "trains": told["trains"], **known, **unknown, **keys})
    if not parts:
        return Scored(version, None)
    # one column after the other, and its parts are given up: all of them at once would be held twice
    names = list(parts[0])
    return Scored(version, {name: np.concatenate([part.pop(name) for part in parts]) for name in names})


def evaluate(house: House, scored: Scored, calibrator: Calibrator | None = None) -> Built:
    """Every metric of every objective, raw and calibrated; no metric at all where no model came before.

    Args:
        house: where to work.
        scored: as ``score_rows`` gives it.
        calibrator: as it was known before these rows; ``None`` if there was none.
    """
    version, rows = scored.version, scored.rows
    if version is None:
        return Built(
            rows=pl.DataFrame(schema=_SCHEMA), notes={"baseline": "none: the first day of this line"}
        )
    if rows is None:
        return Built(rows=pl.DataFrame(schema=_SCHEMA), notes={"evaluated": 0})
    funnel = house.scenario.funnel
    names = [column.name for column in funnel.score_columns]
    twins = None if calibrator is None else calibrated(funnel, calibrator.curves, rows)
    masks = {name: mask for name, mask in rows.items() if name.startswith("unknown_")}
    slices: dict[str, np.ndarray | slice] = {"all": slice(None), **masks}  # of all, nothing is copied
    found: list[tuple[str, Metric]] = []
    for name, mask in slices.items():
        y, valid = rows["y"][mask], rows["trains"][mask]
        shown = {column: rows[column][mask] for column in names}
        metrics = measure(funnel, y, valid, shown, rows["user"][mask])
        if twins is not None:
            metrics += after_calibration(funnel, y, valid, {twin: p[mask] for twin, p in twins.items()})
        found += [(name, metric) for metric in metrics]
    found += by_tenth(funnel, rows["y"], rows["trains"], rows, twins)
    told = [
        (version.version, m.objective, m.space, name, m.name, m.value, m.rows, m.positives, "final")
        for name, m in found
    ]
    frame = pl.DataFrame(told, schema=_SCHEMA, orient="row")
    known = "none" if calibrator is None else calibrator.version
    notes: dict[str, object] = {"evaluated": len(rows["user"]), "calibrator": known}
    return Built(rows=frame.select(METRICS.schema.names), notes=notes)
