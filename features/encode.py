"""Readable features to integers and floats; the same code for training and for scoring.

Ids become rows of one packed embedding table. Row 0 of the table is padding. Each vocabulary owns a fixed
range of rows: the first is "missing" (null), the second "unknown" (an id not admitted yet), then the ids in
the order of their admission. The id maps are append-only, so a row never changes its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from features.view import Category, Dense, Feature

#: Columns of an id map; ids that are integers stand in ``id_int``, all others in ``id_text``.
MAP_SCHEMA = {
    "vocabulary": pl.String(),
    "id_int": pl.Int64(),
    "id_text": pl.String(),
    "row": pl.Int32(),
    "count": pl.Int64(),
    "first_seen": pl.Date(),
    "last_seen": pl.Date(),
}
MISSING, UNKNOWN, FIRST = 0, 1, 2
#: Spreads from its centre at which a quantity is cut off: one wild value must not throw a model off.
CLIP = 8.0


@dataclass(frozen=True)
class Layout:
    """Where each feature goes in the encoded batch.

    Attributes:
        singles: features with one embedding row, in the order of ``rows``.
        bags: list features, side by side in ``bag_rows``.
        dense: quantities, in the order of ``dense``.
        offsets: first packed row of every vocabulary.
        num_rows: rows of the packed table, padding included.
    """

    singles: tuple[Feature, ...]
    bags: tuple[Feature, ...]
    dense: tuple[Feature, ...]
    offsets: Mapping[str, int]
    num_rows: int

    @classmethod
    def of(cls, features: Sequence[Feature]) -> Layout:
        """The layout of these features.

        Raises:
            ValueError: two features give one vocabulary different capacities.
        """
        capacities: dict[str, int] = {}
        for feature in features:
            if isinstance(feature.encoding, Category):
                declared = capacities.setdefault(feature.encoding.vocabulary, feature.encoding.capacity)
                if declared != feature.encoding.capacity:
                    raise ValueError(
                        f"Vocabulary {feature.encoding.vocabulary!r} has capacity {declared} and, in feature "
                        f"{feature.name!r}, {feature.encoding.capacity}. Give both the same."
                    )
        offsets, next_row = {}, 1
        for vocabulary, capacity in capacities.items():
            offsets[vocabulary] = next_row
            next_row += capacity
        categories = [f for f in features if isinstance(f.encoding, Category)]
        return cls(
            singles=tuple(f for f in categories if _category(f).length == 0),
            bags=tuple(f for f in categories if _category(f).length > 0),
            dense=tuple(f for f in features if isinstance(f.encoding, Dense)),
            offsets=offsets,
            num_rows=next_row,
        )

    @property
    def bag_lengths(self) -> tuple[int, ...]:
        """Padded length of each bag."""
        return tuple(_category(feature).length for feature in self.bags)

    @property
    def dense_columns(self) -> tuple[str, ...]:
        """Names of the columns of ``dense``; a flag follows the quantity that it belongs to."""
        names: list[str] = []
        for feature in self.dense:
            names.append(feature.name)
            if isinstance(feature.encoding, Dense) and feature.encoding.flag:
                names.append(f"{feature.name}_missing")
        return tuple(names)


def empty_map() -> pl.DataFrame:
    """The id map before the first day."""
    return pl.DataFrame(schema=MAP_SCHEMA)


def grow(id_map: pl.DataFrame, rows: pl.LazyFrame, layout: Layout, day: date) -> pl.DataFrame:
    """The id map after a day: counts added, and ids that were seen often enough admitted.

    A vocabulary counts the impressions of its single-valued features (of its lists if it has no other).
    New rows go to ids in their own order, so that the map does not depend on the order of the log. A full
    vocabulary admits no more; the rest stays unknown.

    Args:
        id_map: as of the day before, columns of ``MAP_SCHEMA``.
        rows: the day's new samples.
        layout: the features.
        day: the day, for first and last seen.
    """
    singles = {_category(f).vocabulary for f in layout.singles}
    readers: dict[str, list[Feature]] = {}
    for feature in (*layout.singles, *layout.bags):
        vocabulary = _category(feature).vocabulary
        if _category(feature).length == 0 or vocabulary not in singles:
            readers.setdefault(vocabulary, []).append(feature)
    columns = [feature.name for group in readers.values() for feature in group]
    seen = rows.select(columns).collect(engine="streaming")
    parts = []
    for vocabulary, features in sorted(readers.items()):
        known = id_map.filter(pl.col("vocabulary") == vocabulary)
        parts.append(
            _grow_one(known, vocabulary, [seen[f.name] for f in features], _category(features[0]), day)
        )
    return pl.concat(parts).select(MAP_SCHEMA.keys())


def _grow_one(
    known: pl.DataFrame, vocabulary: str, values: list[pl.Series], encoding: Category, day: date
) -> pl.DataFrame:
    flat = pl.concat([v.explode() if isinstance(v.dtype, pl.List) else v for v in values]).drop_nulls()
    key = "id_int" if flat.dtype.is_integer() else "id_text"
    fresh = flat.rename(key).value_counts(name="fresh")
    merged = (
        known.join(fresh, on=key, how="full", coalesce=True)
        .with_columns(
            pl.lit(vocabulary).alias("vocabulary"),
            pl.col("count").fill_null(0) + pl.col("fresh").fill_null(0).cast(pl.Int64),
            pl.col("first_seen").fill_null(day),
            pl.when(pl.col("fresh").is_not_null())
            .then(pl.lit(day))
            .otherwise("last_seen")
            .alias("last_seen"),
        )
        .sort(key)
    )
    used = FIRST + merged["row"].count()
    admitted = pl.col("row").is_null() & (pl.col("count") >= encoding.admit)
    place = used + admitted.cum_sum().cast(pl.Int32) - 1
    return merged.with_columns(
        pl.when(admitted & (place < encoding.capacity))
        .then(place)
        .otherwise("row")
        .cast(pl.Int32)
        .alias("row")
    ).select(MAP_SCHEMA.keys())


class Encoder:
    """Turns sample columns into the arrays of a batch, by one layout and one version of the id map."""

    def __init__(self, layout: Layout, id_map: pl.DataFrame) -> None:
        self.layout = layout
        self._maps: dict[str, pl.DataFrame] = {
            str(vocabulary): part.filter(pl.col("row").is_not_null())
            for (vocabulary,), part in id_map.group_by("vocabulary")
        }

    def encode(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        """Arrays ``rows`` (B, F) int64, ``bag_rows`` (B, L) int64 and ``dense`` (B, D) float32.

        Args:
            frame: a column per feature of the layout, in readable form.
        """
        singles = [self._rows(frame[f.name], _category(f)) for f in self.layout.singles]
        bags = []
        for feature in self.layout.bags:
            encoding = _category(feature)
            for place in range(encoding.length):
                value = frame[feature.name].list.get(place, null_on_oob=True)
                bags.append(self._rows(value, encoding, missing=0))
        dense = [column for f in self.layout.dense for column in _dense(frame[f.name], f)]
        height = frame.height
        return {
            "rows": _stack(singles, height, np.int64),
            "bag_rows": _stack(bags, height, np.int64),
            "dense": _stack(dense, height, np.float32),
        }

    def unknown_keys(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Which rows of an encoded block have a ``user`` or ``item`` without a row of its own, (B,) bool."""
        return {
            feature.name.removesuffix("_id"): arrays["rows"][:, place]
            == self.layout.offsets[_category(feature).vocabulary] + UNKNOWN
            for place, feature in enumerate(self.layout.singles)
            if feature.name in ("user_id", "item_id")
        }

    def _rows(self, values: pl.Series, encoding: Category, missing: int | None = None) -> pl.Series:
        """Packed rows of one column of ids; null goes to ``missing`` (default: the vocabulary's own row)."""
        offset = self.layout.offsets[encoding.vocabulary]
        at_null = offset + MISSING if missing is None else missing
        known = self._maps.get(encoding.vocabulary)
        if known is None:
            rows = pl.repeat(UNKNOWN, len(values), dtype=pl.Int32, eager=True)
        else:
            key = "id_int" if values.dtype.is_integer() else "id_text"
            rows = values.replace_strict(known[key], known["row"], default=UNKNOWN, return_dtype=pl.Int32)
        packed = rows.cast(pl.Int64) + offset
        return packed.set(values.is_null(), at_null)


def _category(feature: Feature) -> Category:
    assert isinstance(feature.encoding, Category)  # noqa: S101 - callers select by it
    return feature.encoding


def _dense(values: pl.Series, feature: Feature) -> list[pl.Series]:
    assert isinstance(feature.encoding, Dense)  # noqa: S101 - callers select by it
    x = values.cast(pl.Float64)
    if feature.encoding.scale == "log1p":
        x = (x + 1).log()
    elif feature.encoding.scale == "logit":
        x = (x / (1 - x)).log()
    standard = ((x - feature.encoding.center) / feature.encoding.spread).clip(-CLIP, CLIP)
    columns = [standard.fill_null(0.0).cast(pl.Float32)]
    if feature.encoding.flag:
        columns.append(values.is_null().cast(pl.Float32))
    return columns


def _stack(columns: list[pl.Series], height: int, dtype: type) -> np.ndarray:
    stacked: np.ndarray = np.empty((height, len(columns)), dtype=dtype)
    for place, column in enumerate(columns):
        stacked[:, place] = column.to_numpy()
    return stacked
