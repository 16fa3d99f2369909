"""One pass over one stream of batches.

Shapes: K objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from models.batch import Batch
from models.line import Line


@dataclass(frozen=True)
class TrainReport:
    """What a pass did.

    Attributes:
        rows: rows seen.
        steps: batches learned.
        trained: rows that each objective learned from, by its name.
        mean_loss: mean training loss of each objective over those rows, in nats or (a value) in its unit
            squared, each batch measured before its step; ``None`` if the objective had no row.
    """

    rows: int
    steps: int
    trained: dict[str, int]
    mean_loss: dict[str, float | None]


@dataclass(frozen=True)
class Progress:
    """How far training has come, between two batches.

    Attributes:
        passes: passes that are over.
        taken: batches of the pass at hand that are learned.
        rows: rows seen, of all passes.
        steps: batches learned, of all passes.
        rows_K: rows that each objective learned from, int64, shape (K,).
        total_K: sum of their losses, float64, shape (K,).
    """

    passes: int
    taken: int
    rows: int
    steps: int
    rows_K: Tensor
    total_K: Tensor

    @classmethod
    def none(cls, objectives: int) -> Self:
        """Nothing is learned yet."""
        count_K = torch.zeros(objectives, dtype=torch.int64)
        return cls(0, 0, 0, 0, count_K, count_K.double())

    def report(self, line: Line) -> TrainReport:
        """What has been done so far."""
        by_name = list(zip(line.funnel.names, self.rows_K.tolist(), self.total_K.tolist(), strict=True))
        return TrainReport(
            rows=self.rows,
            steps=self.steps,
            trained={name: count for name, count, _ in by_name},
            mean_loss={name: total / count if count else None for name, count, total in by_name},
        )


def train_one_pass(line: Line, batches: Iterable[Batch]) -> TrainReport:
    """Learn from every batch once, in the order given.

    The same line and batches end in the same bytes on the same processor type, torch and number of
    threads.

    Raises:
        ValueError: a batch has another layout or no labels.
        NotFinite: a loss or gradient is NaN or infinite; the steps before it have been taken.
    """
    return go_on(line, batches, Progress.none(len(line.funnel))).report(line)


def go_on(
    line: Line,
    batches: Iterable[Batch],
    done: Progress,
    after: Callable[[Progress], None] | None = None,
) -> Progress:
    """Finish the pass at hand, as ``train_one_pass`` does.

    Args:
        line: as it was after ``done``.
        batches: the batches of this pass that are not learned yet.
        done: how far training has come.
        after: told after every batch how far it is.

    Returns:
        How far it is with one more pass over.
    """
    if not done.taken:
        line.begin_day()
    for batch in batches:
        counted_K = line.objectives.counts(*batch.labels).sum(dim=0)
        losses_K = line.learn(batch)
        done = replace(
            done,
            taken=done.taken + 1,
            rows=done.rows + len(batch),
            steps=done.steps + 1,
            rows_K=done.rows_K + counted_K,
            total_K=done.total_K + losses_K.double() * counted_K,
        )
        if after is not None:
            after(done)
    return replace(done, passes=done.passes + 1, taken=0)
