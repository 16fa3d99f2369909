"""A stream of encoded batches from samples: bounded memory, shuffled within a stated window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, pairwise

import numpy as np
import polars as pl

from features.encode import Encoder
from features.funnel import Funnel, Objective
from features.labels import newly_final
from features.samples import ROW_GROUP
from features.sampling.base import Propensity, Sampling
from features.sampling.everything import Everything
from features.scenario import Scenario

_EVERYTHING = Everything()
#: Rows that one scan covers, as many as a row group has. Whatever lies between a scan and its reader, Polars
#: computes ahead of a slow one as far as the scan goes: a hundred thousand samples are some tens of MiB, a
#: large day is several GiB.
STRETCH = ROW_GROUP


def fresh_rows(samples: pl.LazyFrame, scenario: Scenario, since: datetime, until: datetime) -> pl.LazyFrame:
    """Samples of which some label became final after ``since`` and by ``until``, with ``trains_*`` masks.

    The mask of an objective looks at the clock alone: a positive does not come in early while the
    negatives of its hour still wait.
    """
    masks = [
        newly_final(scenario.funnel, o.name, scenario.lateness, since, until).alias(f"trains_{o.name}")
        for o in scenario.funnel
    ]
    trained = pl.any_horizontal(f"trains_{o.name}" for o in scenario.funnel)
    return samples.with_columns(masks).filter(trained)


def blocks(rows: pl.LazyFrame | Iterable[pl.LazyFrame], block_rows: int) -> Iterator[pl.DataFrame]:
    """The rows in order, ``block_rows`` at a time (the last may be smaller), streamed.

    Args:
        rows: in one frame, or in several of which each is read when the one before it is over.
        block_rows: rows of a block.
    """
    waiting: list[pl.DataFrame] = []
    height = 0
    frames = (rows,) if isinstance(rows, pl.LazyFrame) else rows
    for part in chain.from_iterable(
        frame.collect_batches(chunk_size=block_rows, maintain_order=True) for frame in frames
    ):
        waiting.append(part)
        height += part.height
        del part
        while height >= block_rows:
            cut = _cut(waiting, block_rows)
            waiting, height = [cut.pop()], height - block_rows
            yield cut.pop()  # what is passed on is not held here, too
    if height:
        yield pl.concat(waiting)


def _cut(frames: Sequence[pl.DataFrame], rows: int) -> list[pl.DataFrame]:
    """The first rows of the frames, and the others."""
    whole = pl.concat(frames)
    return [whole.head(rows), whole.slice(rows)]


def stretches(samples: pl.LazyFrame) -> Iterator[pl.LazyFrame]:
    """The samples in parts of about ``STRETCH`` rows, each of which is a scan of its own.

    Parts are cut between instants of exposure, by which samples are ordered in their files, so that a scan
    passes over the row groups of the others.

    Args:
        samples: ordered by ``exposed_at``, a column that they have.
    """
    every = samples.select("exposed_at").gather_every(STRETCH, STRETCH)
    edges = every.collect(engine="streaming")["exposed_at"].unique().sort()
    exposed = pl.col("exposed_at")
    for low, high in pairwise((None, *edges, None)):
        part = samples if low is None else samples.filter(exposed >= low)
        yield part if high is None else part.filter(exposed < high)


def training_batches(
    rows: pl.LazyFrame | Sequence[pl.LazyFrame],
    scenario: Scenario,
    encoder: Encoder,
    *,
    batch_rows: int,
    window_rows: int,
    seed: int,
    sampling: Sampling = _EVERYTHING,
    sampling_seed: int = 0,
    propensity: Propensity | None = None,
    skip: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Encoded batches with labels, shuffled within windows of ``window_rows``.

    Keys beside those of ``Encoder.encode``: ``y`` (B, K) float32, ``trains`` (B, K) bool, ``weight`` (B,).

    Args:
        rows: as ``fresh_rows`` gives them, ordered by exposure; of several frames, one after the other, none
            shares a window.
        scenario: the scenario.
        encoder: turns readable features into arrays.
        batch_rows: rows of a batch, at most.
        window_rows: rows that are read and shuffled together; sampling makes fewer or more of them.
        seed: of the shuffle.
        sampling: which of the rows train which objectives.
        sampling_seed: of the sampling; the same on every day of a line.
        propensity: as ``Sampling.sample`` takes it.
        skip: batches that are left out at the beginning; the others are as they would be after them. Windows
            of such batches are read and not encoded.
    """
    order = np.random.default_rng(seed)
    parts = (rows,) if isinstance(rows, pl.LazyFrame) else rows
    for read in chain.from_iterable(blocks(stretches(part), window_rows) for part in parts):
        window = sampling.sample(read, scenario.funnel, seed=sampling_seed, propensity=propensity)
        shuffled = order.permutation(window.height)
        first, skip = skip * batch_rows, max(0, skip - -(-window.height // batch_rows))
        if first >= len(shuffled):
            continue
        # a window is held, and the next one beside it: its rows of the table in half the memory
        arrays = {**encoder.encode(window, dtype=encoder.held_dtype), **targets(window, scenario)}
        del read, window  # batches are made of the arrays alone
        for start in range(first, len(shuffled), batch_rows):
            chosen = shuffled[start : start + batch_rows]
            # half the time of ``array[chosen]``
            batch = {name: array.take(chosen, axis=0) for name, array in arrays.items()}
            yield batch | {name: batch[name].astype(np.int64, copy=False) for name in ("rows", "bag_rows")}
        del arrays  # before the next window is read


def targets(frame: pl.DataFrame, scenario: Scenario) -> dict[str, np.ndarray]:
    """What is learned, training masks and weights of a block, objectives in the funnel's order.

    ``y`` holds the label of a binary objective, 0 or 1, and of a value the sum in its own unit. Of rows of
    ``features.readings.open_rows`` also ``open``, ``again`` (B, K) bool and ``complete`` (B, K) float32.
    """
    funnel = scenario.funnel
    told = {
        "y": np.stack([_target(frame, o) for o in funnel], axis=1).astype(np.float32),
        "trains": _stacked(frame, funnel, "trains").astype(np.bool_),
        "weight": frame["weight"].to_numpy().astype(np.float32),
    }
    if f"open_{funnel.names[0]}" not in frame.columns:
        return told
    how = {name: _stacked(frame, funnel, name) for name in ("open", "again", "complete")}
    return {**told, **how}


def _stacked(frame: pl.DataFrame, funnel: Funnel, what: str) -> np.ndarray:
    """Columns ``<what>_<objective>`` side by side, (B, K)."""
    return np.stack([frame[f"{what}_{o.name}"].to_numpy() for o in funnel], axis=1)


def _target(frame: pl.DataFrame, objective: Objective) -> np.ndarray:
    # an integer sum is divided in float64: a large one must not lose digits before it is small
    if objective.kind == "value":
        return np.asarray(frame[objective.total].to_numpy() / objective.scale)
    return frame[objective.label].to_numpy()
