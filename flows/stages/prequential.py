"""A day is judged before anything is learned from it: its metrics, and the evidence for calibration."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cache

import polars as pl

from flows.house import House
from flows.recipes import Recipe
from flows.stages.calibrate import calibrator_of
from flows.stages.evaluate import evaluate, score_rows
from flows.stages.evidence import evidence
from flows.stages.keep import keep
from flows.stages.late import judge, late_objectives, with_unseen
from flows.stages.per_pass import with_passes
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan
from flows.stages.unlearned import spans, untaught
from flows.stages.version import Version
from models.line import Line


def judged(
    house: House,
    recipe: Recipe,
    line: Line,
    parent: Version | None,
    rows: pl.LazyFrame,
    since: datetime,
    metrics: Plan,
    evident: Plan,
) -> Iterator[StageRecord]:
    """Keep both tables of the day; rows are scored once for both, and not at all where both are there.

    Args:
        house: where.
        recipe: of the line.
        line: as ``parent`` left it.
        parent: the version before the day; ``None`` on a line's first.
        rows: as ``features.batches.fresh_rows`` gives them.
        since: the parent's watermark.
        metrics: plan of ``metrics_daily``.
        evident: plan of ``calibration_daily``.
    """
    names = late_objectives(house, recipe)
    own = cache(lambda: score_rows(house, line, parent, rows))
    other = cache(lambda: judge(house, recipe, rows, since))
    calibrator = None if parent is None else calibrator_of(house, parent.day, recipe)

    def measured() -> Built:
        found = with_passes(house, recipe, parent, rows, evaluate(house, own(), calibrator))
        return with_unseen(house, found, names, other(), calibrator) if names else found

    def seen() -> Built:
        left_out = spans(house, untaught(house, evident.day))
        return evidence(house.scenario.funnel, own(), other() if names else None, names, left_out)

    yield keep(house, metrics, measured)
    yield keep(house, evident, seen)
