"""Of a line that goes over its day more than once: what each pass is worth on the day after.

A second pass over the same rows often costs more than it brings: embeddings of rare ids learn the rows by
heart (Zhang et al., Towards Understanding the Overfitting Phenomenon of Deep Click-Through Rate Prediction
Models, CIKM 2022). So the line is kept as it stood after every pass, and each is scored on the next day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

import polars as pl

from flows.house import House
from flows.recipes import Recipe
from flows.stages.evaluate import evaluate, score_rows
from flows.stages.settle import Built
from flows.stages.version import Version, load
from models import checkpoint
from models.line import Line

#: What is told of a pass in the ledger.
TOLD = ("auc", "log_loss")


def keep_pass(folder: Path, line: Line, nth: int) -> None:
    """Keep a line as it stands after a pass that is not its last.

    Args:
        folder: where the version's own checkpoint will be.
        line: the line.
        nth: the pass, from 1.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(_folder(folder, nth), line.state(), {"model_version": folder.name, "pass": nth})


def with_passes(
    house: House, recipe: Recipe, version: Version | None, rows: pl.LazyFrame, own: Built
) -> Built:
    """Metrics of the version, with those of its earlier passes as slices ``pass_1``, ``pass_2`` and so on.

    Args:
        house: where to work.
        recipe: of the line.
        version: what is evaluated.
        rows: the rows.
        own: the version's metrics on them; it is the last pass.
    """
    frames, told = [cast(pl.DataFrame, own.rows)], {}
    for nth, earlier in _passes(version):
        scored = score_rows(house, load(house, recipe, earlier), earlier, rows)
        found = cast(pl.DataFrame, evaluate(house, scored).rows)
        frames.append(found.filter(slice="all").with_columns(slice=pl.lit(f"pass_{nth}")))
        told[f"pass_{nth}"] = _told(frames[-1])
    if not told:
        return own
    told["last"] = _told(frames[0].filter(slice="all"))
    return replace(own, rows=pl.concat(frames), notes={**own.notes, "passes": told})


def _told(metrics: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """AUC and log loss per objective, over all impressions."""
    found: dict[str, dict[str, float | None]] = {}
    shown = metrics.filter(pl.col("metric").is_in(TOLD), space="impressions")
    for objective, metric, value in shown.select("objective", "metric", "value").rows():
        found.setdefault(objective, {})[metric] = value
    return found


def _passes(version: Version | None) -> Iterator[tuple[int, Version]]:
    """The version as it stood after each pass but its last."""
    if version is None:
        return
    for nth in count(1):
        folder = _folder(version.folder, nth)
        if not folder.is_dir():
            return
        yield nth, replace(version, folder=folder)


def _folder(folder: Path, nth: int) -> Path:
    return folder.with_name(f"{folder.name}.pass{nth}")
