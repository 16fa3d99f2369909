"""What a day's figures are: nulls and constants of columns, rates of objectives, ids that are new."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from features.encodings import Category
from features.funnel import Objective
from features.validation.bands import FIGURES
from features.view import Feature


def frame(rows: Iterable[tuple[str, str, str, float | None, int]]) -> pl.DataFrame:
    """Figures as rows of table, rule, column, value and rows."""
    return pl.DataFrame(list(rows), schema=FIGURES, orient="row")


def of_columns(table: str, features: Iterable[Feature], rows: pl.DataFrame) -> pl.DataFrame:
    """Share of nulls of every feature, and whether it has no two values; an empty list counts as null.

    Args:
        table: name of the table.
        features: columns of ``rows``.
        rows: a day, or an evenly spread part of it.
    """
    told: list[tuple[str, str, str, float | None, int]] = []
    for feature in features:
        values = rows[feature.name]
        missing = values.is_null()
        if isinstance(values.dtype, pl.List):
            missing = missing | (values.list.len() == 0).fill_null(True)
        elif values.dtype.is_float():
            missing = missing | values.is_nan().fill_null(False)
        share = missing.mean() if len(values) else None
        assert share is None or isinstance(share, float)  # noqa: S101 - the mean of a mask
        alike = float(values.filter(~missing).n_unique() < 2) if len(values) else None
        told.append((table, "nulls", feature.name, share, len(values)))
        told.append((table, "constant", feature.name, alike, len(values)))
    return frame(told)


def of_objective(table: str, objective: Objective, rows: pl.DataFrame) -> pl.DataFrame:
    """Rate of an objective among rows of its own space whose label is final.

    Args:
        table: name of the table.
        objective: its label, space and finality are columns of ``rows``.
        rows: samples.
    """
    settled = rows.filter(pl.col(objective.final) & pl.col(objective.space))[objective.label]
    rate = float(settled.sum()) / len(settled) if len(settled) else None
    return frame([(table, "positives", objective.name, rate, len(settled))])


def of_ids(table: str, features: Iterable[Feature], rows: pl.DataFrame, id_map: pl.DataFrame) -> pl.DataFrame:
    """Share of the values of every id or code that own no embedding row, among those that are not null.

    Args:
        table: name of the table.
        features: columns of ``rows``; only categories of one value are looked at.
        rows: a day, or an evenly spread part of it.
        id_map: as it was before the day, see ``features.id_maps``.
    """
    told: list[tuple[str, str, str, float | None, int]] = []
    owned = id_map.filter(pl.col("row").is_not_null())
    for feature in features:
        encoding = feature.encoding
        if not isinstance(encoding, Category) or encoding.length:
            continue
        values = rows[feature.name].drop_nulls()
        known = owned.filter(vocabulary=encoding.vocabulary)
        ids = known["id_int"] if values.dtype.is_integer() else known["id_text"]
        unknown = ~values.cast(ids.dtype).is_in(ids.drop_nulls().implode())
        share = float(unknown.sum()) / len(values) if len(values) else None
        told.append((table, "unknown", feature.name, share, len(values)))
    return frame(told)
