"""How far the features and the label rates of a day lie from those of the days before it.

The population stability index of two histograms with shares p (the day) and q (the reference) is

    PSI = sum over bins of (p - q) * ln(p / q),

the symmetric Kullback-Leibler divergence, KL(p, q) + KL(q, p); S. Kullback, R. A. Leibler, "On Information
and Sufficiency", 1951; as an index of stability with the levels 0.1 (some shift) and 0.25 (a large one):
N. Siddiqi, "Credit Risk Scorecards", 2006. An empty bin would make it infinite, so every bin gets half a row
more, p = (n + 1/2) / (N + B/2) for B bins (Jeffreys' prior). Two samples of one population, of N and M rows,
have a PSI of about (B - 1)(1/N + 1/M): B. Yurdakul, "Statistical Properties of Population Stability Index",
2018. At 20,000 rows each and 22 bins that is 0.002.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
import pyarrow as pa

from features.encodings import Binned, Dense
from features.funnel import Funnel
from features.tables import Table
from features.view import Feature

#: Quantile bins of a quantity; the most frequent values of a code that have a bin of their own.
QUANTILES, VALUES = 10, 20
#: From here on a shift is worth a look; from here on it is large.
SOME, LARGE = 0.1, 0.25
_PRIOR = 0.5

DRIFT = Table(
    name="drift_daily",
    schema=pa.schema(
        [
            ("kind", pa.string()),
            ("name", pa.string()),
            ("psi", pa.float64()),
            ("bins", pa.int32()),
            ("rows", pa.int64()),
            ("reference_rows", pa.int64()),
            ("reference_days", pa.int32()),
        ]
    ),
    sort_by=("kind", "name"),
    description="Shift of every feature and label of a day's samples against the days before it.",
    columns={
        "dt": "Logical date of the exposures.",
        "kind": "feature, or label (rows of its own space whose label is final).",
        "name": "Feature, or objective.",
        "psi": "Population stability index: from 0.1 some shift, from 0.25 a large one; null without rows "
        "on one side.",
        "bins": "Bins that hold a row: deciles of the reference, or its 20 most frequent values and the "
        "rest, and one for missing values.",
        "rows": "Rows of the day that were compared (of large days, every n-th); for a list, its values.",
        "reference_rows": "Rows of the days before, likewise.",
        "reference_days": "How many days before the day have samples.",
    },
)


def psi(counts: np.ndarray, reference: np.ndarray) -> float:
    """Population stability index of two histograms over the same bins, of which none is empty in both.

    Args:
        counts: rows per bin, shape (B,).
        reference: rows per bin of the reference, shape (B,).
    """
    bins = len(counts)
    p = (counts + _PRIOR) / (counts.sum() + _PRIOR * bins)
    q = (reference + _PRIOR) / (reference.sum() + _PRIOR * bins)
    return float(((p - q) * np.log(p / q)).sum())


def drift(
    features: Iterable[Feature], funnel: Funnel, rows: pl.DataFrame, reference: pl.DataFrame, days: int
) -> pl.DataFrame:
    """The table ``drift_daily`` of one day.

    Args:
        features: columns to compare; lists by their values.
        funnel: labels to compare, on rows of their own space whose label is final by the clock.
        rows: samples of the day.
        reference: samples of the days before it.
        days: how many these are.
    """
    told = []
    for feature in features:
        quantity = isinstance(feature.encoding, Dense | Binned)
        pair = (_values(frame[feature.name]) for frame in (rows, reference))
        told.append(_row("feature", feature.name, *histograms(*pair, quantity=quantity), days))
    for objective in funnel:
        settled = pl.col(objective.final) & pl.col(objective.space)
        ours, theirs = (frame.filter(settled)[objective.label] for frame in (rows, reference))
        told.append(_row("label", objective.name, *histograms(ours, theirs, quantity=False), days))
    types = {"bins": pl.Int32(), "reference_days": pl.Int32(), "psi": pl.Float64()}
    return pl.DataFrame(told, schema=DRIFT.schema.names, orient="row", schema_overrides=types).sort(
        DRIFT.sort_by
    )


def histograms(values: pl.Series, reference: pl.Series, *, quantity: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows per bin on both sides; the bins follow from the reference alone, and none is empty in both.

    Args:
        values: of the day.
        reference: of the days before it.
        quantity: cut at deciles, unless the reference has no more values than that; else by frequency.
    """
    if quantity:
        values, reference = values.cast(pl.Float64).fill_nan(None), reference.cast(pl.Float64).fill_nan(None)
    known = reference.drop_nulls()
    if quantity and known.n_unique() > QUANTILES:
        shares = np.arange(1, QUANTILES) / QUANTILES
        edges = np.unique(np.quantile(known.to_numpy(), shares, method="inverted_cdf"))
        pair = [_by_edges(side, edges) for side in (values, reference)]
    else:
        counted = known.value_counts(name="rows").sort("rows", known.name, descending=[True, False])
        pair = [_by_value(side, counted[known.name].head(VALUES)) for side in (values, reference)]
    filled = (pair[0] + pair[1]) > 0
    return pair[0][filled], pair[1][filled]


def _by_edges(values: pl.Series, edges: np.ndarray) -> np.ndarray:
    """Rows in (-inf, e1], (e1, e2], ... (en, inf), and missing ones."""
    place = np.searchsorted(edges, values.drop_nulls().to_numpy(), side="left")
    return np.append(np.bincount(place, minlength=len(edges) + 1), values.null_count())


def _by_value(values: pl.Series, common: pl.Series) -> np.ndarray:
    """Rows of every common value, in their order, of the rest, and missing ones."""
    found = pl.DataFrame({"value": common}).join(
        values.drop_nulls().value_counts(name="rows").rename({values.name: "value"}),
        on="value",
        how="left",
        maintain_order="left",
    )
    rows = found["rows"].fill_null(0).cast(pl.Int64).to_numpy()
    return np.append(rows, [len(values) - values.null_count() - rows.sum(), values.null_count()])


def _values(column: pl.Series) -> pl.Series:
    """A list counts by its values; an empty one as missing."""
    return (
        column.explode(empty_as_null=True, keep_nulls=True) if isinstance(column.dtype, pl.List) else column
    )


def _row(kind: str, name: str, counts: np.ndarray, reference: np.ndarray, days: int) -> tuple[object, ...]:
    rows, reference_rows = int(counts.sum()), int(reference.sum())
    index = psi(counts, reference) if rows and reference_rows else None
    return (kind, name, index, len(counts), rows, reference_rows, days)
