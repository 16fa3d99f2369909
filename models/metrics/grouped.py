"""AUC within groups, usually users, of rows at once or batch by batch; T runs of tied scores, G groups."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from models.metrics.rows import Array, Vector
from models.metrics.runs import Runs, Stack


def gauc(y: Vector, p: Vector, group: Vector, weighted: bool = True) -> float | None:
    """Mean AUC within groups, usually users; ``None`` if no group has both classes.

    Groups with one class are left out. Source: Zhou et al., Deep Interest Network, KDD 2018, equation 7.

    Args:
        y: labels.
        p: scores.
        group: what each row belongs to: numbers or names.
        weighted: groups count by their number of rows if true, equally otherwise.
    """
    return GroupTotals.of(Runs.of(y, p, group)).gauc(weighted)


@dataclass(frozen=True)
class GroupTotals:
    """What GAUC needs of groups of which all rows have been seen: four numbers.

    Attributes:
        groups: groups with both classes.
        rows: their rows.
        auc: sum of their AUC.
        auc_rows: sum of their AUC times their rows.
    """

    groups: int = 0
    rows: int = 0
    auc: float = 0.0
    auc_rows: float = 0.0

    @staticmethod
    def of(runs: Runs) -> GroupTotals:
        """Totals of the groups of runs."""
        auc_G, rows_G = _auc_by_group(runs)
        return GroupTotals(len(auc_G), int(rows_G.sum()), math.fsum(auc_G), math.fsum(auc_G * rows_G))

    def merged(self, other: GroupTotals) -> GroupTotals:
        """Totals of both; no group may have rows in both, which nothing here can see."""
        return GroupTotals(
            self.groups + other.groups,
            self.rows + other.rows,
            self.auc + other.auc,
            self.auc_rows + other.auc_rows,
        )

    def gauc(self, weighted: bool = True) -> float | None:
        """As ``gauc``."""
        if not self.groups:
            return None
        return self.auc_rows / self.rows if weighted else self.auc / self.groups


@dataclass
class GroupRanking:
    """GAUC of rows that come batch by batch in any order, equal to that of all rows at once.

    It remembers the distinct pairs of group and score: 28 bytes each with float32 and int64, and four to five
    times that while two parts are merged. Few rows of a user share a score, so that is about the rows.
    For bounded memory, read rows by shards of groups: one of these per shard, then merge their ``totals``.
    """

    _stack: Stack = field(default_factory=Stack)

    def add(self, y: Vector, p: Vector, group: Vector) -> None:
        """Count further rows.

        Raises:
            ValueError: a label that is neither 0 nor 1, a score that is not finite, unlike lengths.
        """
        self._stack.push(Runs.of(y, p, group))

    def merge(self, other: GroupRanking) -> None:
        """Count the rows of another one too, which may be of the same groups; it stays as it is."""
        self._stack.push(other._stack.whole())

    def totals(self) -> GroupTotals:
        """Four numbers, to be added to those of other groups."""
        return GroupTotals.of(self._stack.whole())

    def gauc(self, weighted: bool = True) -> float | None:
        """As ``gauc``."""
        return self.totals().gauc(weighted)


def _auc_by_group(runs: Runs) -> tuple[Array, Array]:
    """AUC and number of rows of every group that has both classes, each of shape (G,)."""
    start_G = runs.starts_G()
    if not len(start_G):
        return np.empty(0), np.empty(0, dtype=np.int64)
    positives_T, negatives_T = runs.positives_T, runs.rows_T - runs.positives_T
    below_T = np.cumsum(negatives_T) - negatives_T
    below_T -= np.repeat(below_T[start_G], np.diff(start_G, append=len(negatives_T)))
    # twice the pairs won, so that a tie is the whole number 1
    won_G = np.add.reduceat(positives_T * (2 * below_T + negatives_T), start_G)
    positives_G, negatives_G = np.add.reduceat(positives_T, start_G), np.add.reduceat(negatives_T, start_G)
    both_G = (positives_G > 0) & (negatives_G > 0)
    auc_G = won_G[both_G] / (2 * positives_G[both_G] * negatives_G[both_G])
    return auc_G, (positives_G + negatives_G)[both_G]
