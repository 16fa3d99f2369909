"""Score rows with the model as it stood before it learned from them."""

from __future__ import annotations

import numpy as np
import polars as pl

from features.batches import blocks, targets
from features.bookkeeping import METRICS
from flows.house import House
from flows.stages.encode import encoder_of
from flows.stages.settle import Built
from flows.stages.version import Version
from models.line import Line
from models.metrics import evaluate as measure
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


def evaluate(house: House, line: Line, version: Version | None, rows: pl.LazyFrame) -> Built:
    """Every metric of every objective on ``rows``; no metric at all where no model came before.

    Rows are encoded with the id maps that the model knew: an id that is new today is unknown, as it was
    when yesterday's scores were published. A block is in memory at a time, and of every row its labels,
    probabilities and user, since an exact AUC ranks them all.

    Args:
        house: where to work.
        line: the model as ``version`` left it.
        version: what is evaluated; ``None`` on a line's first day.
        rows: as ``features.batches.fresh_rows`` gives them.
    """
    if version is None:
        return Built(
            rows=pl.DataFrame(schema=_SCHEMA), notes={"baseline": "none: the first day of this line"}
        )
    encoder = encoder_of(house, version.day, version.id_maps_key)
    names = [column.name for column in house.scenario.funnel.score_columns]
    parts: list[dict[str, np.ndarray]] = []
    for block in blocks(rows, _BLOCK):
        arrays = encoder.encode(block)
        scored = score_arrays(line, arrays)
        unknown = {f"unknown_{key}": mask for key, mask in encoder.unknown_keys(arrays).items()}
        known = {name: scored[name] for name in names}
        parts.append(
            {**targets(block, house.scenario), **known, **unknown, "user": block["user_id"].to_numpy()}
        )
    if not parts:
        return Built(rows=pl.DataFrame(schema=_SCHEMA), notes={"evaluated": 0})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    slices = {"all": np.ones(len(whole["user"]), dtype=np.bool_)}
    slices |= {name: mask for name, mask in whole.items() if name.startswith("unknown_")}
    found = []
    for name, mask in slices.items():
        part = {key: values[mask] for key, values in whole.items()}
        shown = {column: part[column] for column in names}
        metrics = measure(house.scenario.funnel, part["y"], part["trains"], shown, part["user"])
        found += [
            (version.version, m.objective, m.space, name, m.name, m.value, m.rows, m.positives, "final")
            for m in metrics
        ]
    frame = pl.DataFrame(found, schema=_SCHEMA, orient="row")
    return Built(rows=frame.select(METRICS.schema.names), notes={"evaluated": len(whole["user"])})
