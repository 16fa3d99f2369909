"""How well scores rank: AUC and KS, of rows at once or batch by batch; T runs of tied scores.

Pairs and rows are counted as integers, nothing is binned: any order and any batches give the same bits. The
products fit int64 up to 4e9 rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.metrics.calibration import equal_mass_ece
from models.metrics.rows import Vector
from models.metrics.runs import Runs, Stack


def auc(y: Vector, p: Vector) -> float | None:
    """Chance that a positive is scored above a negative, ties counting half; ``None`` with one class.

    >>> import numpy as np
    >>> auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    1.0
    """
    return _auc(Runs.of(y, p))


def ks(y: Vector, p: Vector) -> float | None:
    """Largest true positive rate less false positive rate over all thresholds; ``None`` with one class.

    The Kolmogorov-Smirnov distance in the one direction that is meant: 1 separates the classes, 0 is no
    better than no model at any threshold. A model that ranks the wrong way round has 0, not 1.

    >>> import numpy as np
    >>> ks(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.8]))
    0.5
    """
    return _ks(Runs.of(y, p))


@dataclass
class Ranking:
    """AUC, KS and ECE of rows that come batch by batch, equal to those of all rows at once.

    It remembers the distinct scores, however many rows share them: 21 bytes each if they are float32, and
    four to five times that while two parts are merged. If that is too much, round the scores: it makes ties.

    >>> import numpy as np
    >>> day = Ranking()
    >>> day.add(np.array([0, 1]), np.array([0.1, 0.4]))
    >>> day.add(np.array([0, 1]), np.array([0.35, 0.8]))
    >>> day.auc()
    1.0
    """

    _stack: Stack = field(default_factory=Stack)

    def add(self, y: Vector, p: Vector) -> None:
        """Count further rows.

        Raises:
            ValueError: a label that is neither 0 nor 1, a score that is not finite, unlike lengths.
        """
        self._stack.push(Runs.of(y, p))

    def merge(self, other: Ranking) -> None:
        """Count the rows of another one too; it stays as it is."""
        self._stack.push(other._stack.whole())

    def auc(self) -> float | None:
        """As ``auc``."""
        return _auc(self._stack.whole())

    def ks(self) -> float | None:
        """As ``ks``."""
        return _ks(self._stack.whole())

    def ece(self, bins: int = 15) -> float | None:
        """As ``ece`` with bins of equal mass."""
        return equal_mass_ece(self._stack.whole(), bins)


def _auc(runs: Runs) -> float | None:
    negatives_T = runs.rows_T - runs.positives_T
    positives, negatives = int(runs.positives_T.sum()), int(negatives_T.sum())
    if not positives or not negatives:
        return None
    below_T = np.cumsum(negatives_T) - negatives_T
    # twice the pairs won, so that a tie is the whole number 1
    won = int((runs.positives_T * (2 * below_T + negatives_T)).sum())
    return won / (2 * positives * negatives)


def _ks(runs: Runs) -> float | None:
    positives, rows = int(runs.positives_T.sum()), int(runs.rows_T.sum())
    negatives = rows - positives
    if not positives or not negatives:
        return None
    below_T = np.cumsum(runs.positives_T)
    # rates above a threshold differ as those up to it do, the other way round; both times PN stay whole
    ahead_T = np.cumsum(runs.rows_T - runs.positives_T) * positives - below_T * negatives
    return max(int(ahead_T.max()), 0) / (positives * negatives)
