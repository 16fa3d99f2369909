"""What a version predicted of a day and what then happened, by bin: the table ``calibration_daily``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from features.bookkeeping import CALIBRATION
from features.funnel import Funnel
from flows.stages.settle import Built
from flows.stages.version import Version
from models.calibration.bins import Bins
from models.metrics.spaces import spaces

Rows = Mapping[str, np.ndarray]


def evidence(funnel: Funnel, version: Version | None, rows: Rows | None) -> Built:
    """Sums of every probability over its own space; none where no model came before.

    Args:
        funnel: the objectives.
        version: the version that predicted.
        rows: as ``flows.stages.evaluate.score_rows`` gives them.
    """
    empty = pl.DataFrame(CALIBRATION.schema.empty_table())
    if version is None or rows is None:
        return Built(rows=empty, notes={"bins": 0})
    parts = [empty]
    for space in spaces(funnel, rows["y"], rows["trains"]):
        if not space.own or space.column.kind == "value":
            continue
        inside = space.inside_B
        bins = Bins.of(rows["y"][inside, space.place], rows[space.column.name][inside])
        filled = np.flatnonzero(bins.rows_M)
        sums = {
            "bin": filled.astype(np.int32),
            "rows": bins.rows_M[filled],
            "positives": bins.positives_M[filled],
            "predicted": bins.predicted_M[filled],
        }
        names = {
            "model_version": version.version,
            "objective": space.objective.name,
            "space": space.name,
            "score": space.column.name,
        }
        told = (pl.lit(value).alias(name) for name, value in names.items())
        parts.append(pl.DataFrame(sums).with_columns(told).select(empty.columns))
    found = pl.concat(parts)
    return Built(rows=found, notes={"bins": found.height})
