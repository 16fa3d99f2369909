"""Expected calibration error, of rows at once or batch by batch; N rows, M bins, T runs of tied scores."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.metrics.rows import Array, Vector, probable
from models.metrics.runs import Runs


def ece(y: Vector, p: Vector, bins: int = 15, equal: Literal["mass", "width"] = "mass") -> float | None:
    """Mean gap between predicted and observed rate over bins of rows, by their rows; ``None`` without rows.

    ``sum_m rows_m / N * |mean label_m - mean p_m|``; 0 is calibrated, 1 the worst, and a bin without rows
    counts nothing. Of the probability of the positive class, not of the more likely class. Source: Naeini et
    al., AAAI 2015; Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3. Their texts
    were not read; equation after libraries that name them.

    The number is that of its bins, so compare only what has the same. With few rows a bin it is above 0 for a
    calibrated model too.

    Args:
        y: labels.
        p: probabilities.
        bins: how many, at least 1.
        equal: ``mass``: each bin has N / M rows by rank of ``p``, except that equal ``p`` stay together, in
            the bin of their middle row. ``width``: bin m is ``(m / M, (m + 1) / M]``, and 0 is in the first.
            Rates of a few per cent all fall into the first bin of these; take ``mass`` there.

    Raises:
        ValueError: no bin, a probability outside 0 to 1, a label that is neither 0 nor 1.
    """
    if equal == "width":
        calibration = Calibration(bins)
        calibration.add(y, p)
        return calibration.ece()
    return equal_mass_ece(Runs.of(y, p), bins)


def equal_mass_ece(runs: Runs, bins: int) -> float | None:
    """As ``ece`` of equal mass, from probabilities that were counted.

    Raises:
        ValueError: no bin, a probability outside 0 to 1.
    """
    _refuse_no_bin(bins)
    rows = int(runs.rows_T.sum())
    if not rows:
        return None
    probable(np.zeros(len(runs.score_T)), runs.score_T)
    middle_T = 2 * np.cumsum(runs.rows_T) - runs.rows_T  # twice, so that it is whole
    bin_T = bins * middle_T // (2 * rows)
    predicted_T = runs.score_T.astype(np.float64) * runs.rows_T
    return _ece(_by_bin(bin_T, runs.positives_T, bins), _by_bin(bin_T, predicted_T, bins), rows)


class Calibration:
    """ECE over bins of equal width, of rows that come batch by batch; two numbers per bin are remembered.

    Sums are float64: batches move the result by about 1e-16. Bins of equal mass have edges that depend on all
    rows; ``Ranking.ece`` has them.
    """

    def __init__(self, bins: int = 15) -> None:
        """No row yet.

        Raises:
            ValueError: no bin.
        """
        _refuse_no_bin(bins)
        self.bins, self.rows = bins, 0
        self.positives_M, self.predicted_M = np.zeros(bins), np.zeros(bins)

    def add(self, y: Vector, p: Vector) -> None:
        """Count further rows.

        Raises:
            ValueError: a label that is neither 0 nor 1, a probability outside 0 to 1, unlike lengths.
        """
        y_N, p_N = probable(y, p)
        bin_N = np.searchsorted(np.linspace(0, 1, self.bins + 1)[1:-1], p_N)
        self.rows += len(y_N)
        self.positives_M += _by_bin(bin_N, y_N, self.bins)
        self.predicted_M += _by_bin(bin_N, p_N, self.bins)

    def merge(self, other: Calibration) -> None:
        """Count the rows of another one too; it stays as it is.

        Raises:
            ValueError: it has other bins.
        """
        if other.bins != self.bins:
            raise ValueError(f"{self.bins} bins and {other.bins} bins have no common edges.")
        self.rows += other.rows
        self.positives_M += other.positives_M
        self.predicted_M += other.predicted_M

    def ece(self) -> float | None:
        """As ``ece`` with bins of equal width."""
        return _ece(self.positives_M, self.predicted_M, self.rows) if self.rows else None


def _refuse_no_bin(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"At least one bin, not {bins}.")


def _by_bin(place: Array, weight: Array, bins: int) -> Array:
    return np.bincount(place, weights=weight, minlength=bins)


def _ece(positives_M: Array, predicted_M: Array, rows: int) -> float:
    # the bin's rows cancel between its share and its means, and an empty bin adds 0
    return float(np.abs(positives_M - predicted_M).sum() / rows)
