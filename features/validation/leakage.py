"""Does a feature know the label? By what it reads, by what it is, and by how well it tells alone.

Three guards, from certain to doubtful:

* A feature that reads an outcome column, or has the name of one, is refused where it is declared.
* A feature whose values tell a label's positives from its negatives without an error is refused on the day's
  samples: it is the label, or was made from it.
* A feature whose AUC alone lies above `CEILING` is named with the figure; somebody should look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.encodings import Binned, Dense
from features.funnel import Funnel, Objective
from features.view import Feature

#: A single feature that ranks better than this is rarer than a leak.
CEILING = 0.9
#: With fewer positives or negatives, chance tells them apart.
LEAST = 10
#: Rows of the base rate that are added to those of a code: one lucky row is no evidence.
_STRENGTH = 20.0


@dataclass(frozen=True)
class Copy:
    """A feature whose values tell a label of every row.

    Attributes:
        feature: its name.
        objective: its name.
        rows: rows of the objective's space.
        positives: rows whose label is 1.
    """

    feature: str
    objective: str
    rows: int
    positives: int


@dataclass(frozen=True)
class Separation(Copy):
    """How well one feature alone tells the positives of one label from its negatives.

    Attributes:
        auc: share of pairs of a positive and a negative that it orders, the better way round; ties count
            half. 0.5 to 1.
    """

    auc: float


def outcomes(funnel: Funnel) -> frozenset[str]:
    """Every column that follows from what happened after the exposure."""
    # Each property of an objective names a column that is derived from its events.
    derived = [name for name, member in vars(Objective).items() if isinstance(member, property)]
    return frozenset(str(getattr(objective, name)) for objective in funnel for name in derived)


def refuse_outcomes(features: Iterable[Feature], funnel: Funnel) -> None:
    """Hold features to reading nothing that follows from the outcome.

    Raises:
        ValueError: names the feature, the column and the next step.
    """
    forbidden = outcomes(funnel)
    for feature in features:
        for column in sorted({feature.name, *feature.expr.meta.root_names()} & forbidden):
            what = "has the name of" if column == feature.name else "reads"
            raise ValueError(
                f"Feature {feature.name!r} {what} {column!r}, which is known only after the exposure. "
                "Read a column that is known before it, or drop the feature."
            )


def copies(features: Iterable[Feature], funnel: Funnel, rows: pl.DataFrame) -> list[Copy]:
    """The features that are a label by another name, or a quantity that is one if cut at the right place.

    A quantity is, if every positive lies above every negative, or below; a code, if it has two values (of
    which one may be null) and each stands for one value of the label.

    Args:
        features: columns of ``rows``.
        funnel: its labels are columns of ``rows``; each is judged on the rows of its own space.
        rows: samples of a day, or a part of them.
    """
    return [
        Copy(feature.name, objective.name, len(y), int(y.sum()))
        for feature, objective, codes, y in _pairs(features, funnel, rows)
        if _is_copy(feature, codes, y)
    ]


def separations(features: Iterable[Feature], funnel: Funnel, rows: pl.DataFrame) -> list[Separation]:
    """Every feature against every label that has positives and negatives enough, best first.

    A quantity ranks by its value, a missing one below all others. A code ranks by how far its rate of
    positives in the other half of the rows lies above the rate of that half, smoothed by 20 rows, so that a
    code that is seen once tells nothing; a list ranks as its first value.

    Args:
        features: columns of ``rows``.
        funnel: its labels are columns of ``rows``; each is judged on the rows of its own space.
        rows: samples of a day, or a part of them.
    """
    found = []
    for feature, objective, codes, y in _pairs(features, funnel, rows):
        area = auc(codes if _is_quantity(feature) else _by_rate(codes, y), y)
        found.append(Separation(feature.name, objective.name, len(y), int(y.sum()), max(area, 1 - area)))
    return sorted(found, key=lambda one: (-one.auc, one.feature, one.objective))


def auc(ranks: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs of a positive and a negative that the ranks order.

    The statistic of H. B. Mann and D. R. Whitney, 1947, over the number of pairs; ties count half. Equal
    to the area by J. A. Hanley, B. J. McNeil, "The Meaning and Use of the Area under a ROC Curve", 1982.

    Args:
        ranks: dense ranks of the scores, from 0, shape (B,).
        y: bool, shape (B,), of both values.
    """
    rows = np.bincount(ranks)
    positives = np.bincount(ranks[y], minlength=len(rows))
    negatives = rows - positives
    below = np.cumsum(negatives) - negatives
    pairs = float(positives.sum()) * float(negatives.sum())
    return float((positives * (below + negatives / 2)).sum() / pairs)


def _pairs(
    features: Iterable[Feature], funnel: Funnel, rows: pl.DataFrame
) -> Iterator[tuple[Feature, Objective, np.ndarray, np.ndarray]]:
    """Dense ranks of a feature from 0 and labels on the rows of a label's space, both of shape (B,).

    Labels with fewer than `LEAST` positives or negatives are left out.
    """
    asked = list(features)
    ranks = rows.select(_value(f).rank("dense").fill_null(0).cast(pl.Int64).alias(f.name) for f in asked)
    for objective in funnel:
        inside = rows.select(pl.col(objective.space) & pl.col(objective.label).is_not_null()).to_series()
        y = rows[objective.label].filter(inside).to_numpy().astype(np.bool_)
        if LEAST <= y.sum() <= len(y) - LEAST:
            for feature in asked:
                yield feature, objective, ranks[feature.name].filter(inside).to_numpy(), y


def _is_copy(feature: Feature, codes: np.ndarray, y: np.ndarray) -> bool:
    positive, negative = codes[y], codes[~y]
    if _is_quantity(feature):
        return bool(positive.min() > negative.max() or positive.max() < negative.min())
    one, other = positive[0], negative[0]
    return bool(one != other and (positive == one).all() and (negative == other).all())


def _value(feature: Feature) -> pl.Expr:
    """What ranks: a missing quantity below all others; of a list, the first value."""
    value = pl.col(feature.name)
    if _is_quantity(feature):
        return value.cast(pl.Float64).fill_nan(None).fill_null(-np.inf)
    return value.list.first() if isinstance(feature.dtype, pl.List) else value


def _is_quantity(feature: Feature) -> bool:
    return isinstance(feature.encoding, Dense | Binned)


def _by_rate(codes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Dense ranks by how far the rate of a row's code in the other half (odd, even) is above that half's."""
    half = np.arange(len(codes)) % 2
    cell = codes * 2 + half
    size = 2 * (int(codes.max()) + 1)
    rows, positives = np.bincount(cell, minlength=size), np.bincount(cell, weights=y, minlength=size)
    # Against the base rate of the same half: were it that of all rows, the halves themselves would rank.
    base = np.array([y[half == which].mean() for which in (0, 1)])[np.arange(size) % 2]
    lifts = (positives - rows * base) / (rows + _STRENGTH)
    _, ranks = np.unique(lifts.round(12), return_inverse=True)
    return np.asarray(ranks[codes * 2 + 1 - half])
