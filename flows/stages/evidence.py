"""What a version predicted of a day and what then happened, by bin: the table ``calibration_daily``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType

import numpy as np
import polars as pl

from features.bookkeeping import CALIBRATION
from features.funnel import Funnel
from flows.stages.evaluate import Scored
from flows.stages.settle import Built
from models.calibration.bins import Bins
from models.metrics.spaces import spaces

_NOTHING: Mapping[str, Collection[tuple[datetime, datetime]]] = MappingProxyType({})


def evidence(
    funnel: Funnel,
    scored: Scored,
    unseen: Scored | None = None,
    late: Collection[str] = (),
    left_out: Mapping[str, Collection[tuple[datetime, datetime]]] = _NOTHING,
) -> Built:
    """Sums of every probability over its own space; none where no model came before.

    Args:
        funnel: the objectives.
        scored: rows as the version before the day scores them.
        unseen: the same rows by a version that had read none of their open labels.
        late: objectives that ``unseen`` speaks of.
        left_out: by objective, spans of exposure whose labels are not to be believed, as of
            ``flows.stages.unlearned.untaught``.
    """
    early = [name for name in funnel.names if name not in late]
    parts = [pl.DataFrame(CALIBRATION.schema.empty_table()), *_sums(funnel, scored, early, left_out)]
    if unseen is not None:
        parts += _sums(funnel, unseen, late, left_out)
    found = pl.concat(parts)
    return Built(rows=found, notes={"bins": found.height})


def _sums(
    funnel: Funnel,
    scored: Scored,
    objectives: Collection[str],
    left_out: Mapping[str, Collection[tuple[datetime, datetime]]],
) -> Iterator[pl.DataFrame]:
    """Of every score column of these objectives, as the table has them."""
    version, rows = scored.version, scored.rows
    if version is None or rows is None:
        return
    for space in spaces(funnel, rows["y"], rows["trains"]):
        if not space.own or space.column.kind == "value" or space.objective.name not in objectives:
            continue
        inside, at = space.inside_B, rows["exposed_at"]
        for begin, end in left_out.get(space.objective.name, ()):
            inside = inside & ~((at >= np.datetime64(begin)) & (at < np.datetime64(end)))
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
        yield pl.DataFrame(sums).with_columns(told).select(CALIBRATION.schema.names)
