"""Rows counted by group and score: all that an exact rank metric needs to remember of them.

Rows that share group and score are one run. Merging the runs of two halves gives the runs of the whole, so
that a day can be counted batch by batch and ranked without an approximation.

Shapes: N rows, T runs, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.metrics.rows import Array, Vector, labelled


@dataclass(frozen=True)
class Runs:
    """Runs in ascending order of group, then of score.

    Attributes:
        group_T: group of each run, all 0 if there are no groups.
        score_T: score that its rows share, in the type in which it came: float32 is never widened.
        rows_T: its rows, int64.
        positives_T: positives among them, int64.
    """

    group_T: Array
    score_T: Array
    rows_T: Array
    positives_T: Array

    @staticmethod
    def of(y: Vector, p: Vector, group: Vector | None = None) -> Runs:
        """Count rows.

        Raises:
            ValueError: a label that is neither 0 nor 1, a score that is not finite, unlike lengths.
        """
        y_N, p_N = labelled(y, p)
        group_N = np.zeros(len(y_N), dtype=np.int8) if group is None else np.asarray(group)
        if group_N.shape != y_N.shape:
            raise ValueError(f"One group per row, not shape {group_N.shape} for {y_N.shape}.")
        return _collapsed(group_N, p_N, np.ones_like(y_N), y_N)

    def merged(self, other: Runs) -> Runs:
        """Runs of the rows of both."""
        return _collapsed(
            np.concatenate([self.group_T, other.group_T]),
            np.concatenate([self.score_T, other.score_T]),
            np.concatenate([self.rows_T, other.rows_T]),
            np.concatenate([self.positives_T, other.positives_T]),
        )

    def starts_G(self) -> Array:
        """Place of the first run of each group, of shape (G,)."""
        if not len(self.group_T):
            return np.empty(0, dtype=np.int64)
        return np.append(0, np.flatnonzero(self.group_T[1:] != self.group_T[:-1]) + 1)


def _collapsed(group: Array, score: Array, rows: Array, positives: Array) -> Runs:
    if not len(score):
        return Runs(group, score, rows, positives)
    if (group == group[0]).all():
        order = np.argsort(score, kind="stable")
    else:
        # lexsort refuses Python objects, which names from a table are
        code = np.unique(group, return_inverse=True)[1] if group.dtype == object else group
        order = np.lexsort((score, code))
    group, score = group[order], score[order]
    start_T = np.append(0, np.flatnonzero((group[1:] != group[:-1]) | (score[1:] != score[:-1])) + 1)
    return Runs(
        group[start_T],
        score[start_T],
        np.add.reduceat(rows[order], start_T),
        np.add.reduceat(positives[order], start_T),
    )


@dataclass
class Stack:
    """Runs that grow batch by batch; parts are merged when they have grown alike.

    Every run is thus merged about log2(batches) times, not once per batch.
    """

    parts: list[Runs] = field(default_factory=list)

    def push(self, runs: Runs) -> None:
        """Take the runs of further rows."""
        self.parts.append(runs)
        while len(self.parts) > 1 and len(self.parts[-2].score_T) <= 2 * len(self.parts[-1].score_T):
            last = self.parts.pop()
            self.parts[-1] = self.parts[-1].merged(last)

    def whole(self) -> Runs:
        """Runs of all rows so far."""
        while len(self.parts) > 1:
            last = self.parts.pop()
            self.parts[-1] = self.parts[-1].merged(last)
        return self.parts[0] if self.parts else Runs.of(np.empty(0), np.empty(0))
