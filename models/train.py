"""One pass over one stream of batches.

Shapes: K objectives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

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


def train_one_pass(line: Line, batches: Iterable[Batch]) -> TrainReport:
    """Learn from every batch once, in the order given.

    The same line and batches end in the same bytes on the same processor type, torch and number of
    threads.

    Raises:
        ValueError: a batch has another layout or no labels.
        NotFinite: a loss or gradient is NaN or infinite; the steps before it have been taken.
    """
    rows = steps = 0
    rows_K = torch.zeros(len(line.funnel), dtype=torch.int64)
    total_K = torch.zeros(len(line.funnel), dtype=torch.float64)
    line.begin_day()
    for batch in batches:
        counted_K = line.objectives.counts(*batch.labels).sum(dim=0)
        losses_K = line.learn(batch)
        total_K += losses_K.double() * counted_K
        rows_K += counted_K
        rows += len(batch)
        steps += 1
    by_name = list(zip(line.funnel.names, rows_K.tolist(), total_K.tolist(), strict=True))
    return TrainReport(
        rows=rows,
        steps=steps,
        trained={name: count for name, count, _ in by_name},
        mean_loss={name: total / count if count else None for name, count, total in by_name},
    )
