"""Which id owns which embedding row of its vocabulary, day by day.

A version of the maps is the state after one day, made from the version before it and the day's samples. Old
versions stay as they are. An id keeps its row for as long as the maps know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import date, timedelta

import numpy as np
import polars as pl

from features.encodings import FIRST, Binned, Category, Dense, Embedded
from features.errors import BadWarehouse
from features.view import Feature

#: Columns of the maps; ids that are integers stand in ``id_int``, all others in ``id_text``. An entry with an
#: ``edge`` is a learned bin and has no id.
MAP_SCHEMA = {
    "vocabulary": pl.String(),
    "id_int": pl.Int64(),
    "id_text": pl.String(),
    "edge": pl.Float64(),
    "row": pl.Int32(),
    "row_since": pl.Date(),
    "count": pl.Int64(),
    "first_seen": pl.Date(),
    "last_seen": pl.Date(),
}


def empty_map() -> pl.DataFrame:
    """The id maps before the first day."""
    return pl.DataFrame(schema=MAP_SCHEMA)


def vocabularies(features: Iterable[Feature]) -> dict[str, Embedded]:
    """The encoding behind every vocabulary, in the order in which the features name them.

    Raises:
        ValueError: two features declare one vocabulary differently, or an id is of a type that could not be
            told from its neighbours.
    """
    declared: dict[str, Embedded] = {}
    keys: dict[str, str] = {}
    for feature in features:
        encoding = feature.encoding
        if isinstance(encoding, Dense):
            continue
        name = encoding.vocabulary
        first, key = declared.setdefault(name, encoding), _key(feature)
        for what, one, other in _differences(first, encoding, keys.setdefault(name, key), key):
            raise ValueError(
                f"Vocabulary {name!r} has {what} {one} and, in feature {feature.name!r}, {other}. "
                "Give both the same."
            )
    return declared


def grow(id_map: pl.DataFrame, rows: pl.LazyFrame, features: Sequence[Feature], day: date) -> pl.DataFrame:
    """The maps after a day: counts added, ids forgotten that expired, ids admitted that were seen enough.

    A vocabulary counts the impressions of its single-valued features (of its lists if it has no other).
    Rows of ids that expire on the day are free on the same day. The lowest free rows go to the waiting ids
    in the ids' own order, so that the maps do not depend on the order of the log. A full vocabulary admits
    no more until a row is free; the rest stays unknown.

    Whether an id expired is asked at the end of a day, with that day's ids counted. Days are those of the
    calendar: one that was never run is one on which no id was seen.

    Args:
        id_map: as of the day before, columns of ``MAP_SCHEMA``.
        rows: the day's new samples.
        features: the features.
        day: the day, for first and last seen.

    Raises:
        ValueError: see `vocabularies`.
        BadWarehouse: a row of ``id_map`` lies beyond its vocabulary's capacity.
    """
    declared = vocabularies(features)
    check_rows(id_map, declared)
    counted = {name: one for name, one in sorted(declared.items()) if _is_mapped(one)}
    fresh = pl.collect_all([_count(rows, _readers(features, name)) for name in counted], engine="streaming")
    parts = [empty_map()]
    for (name, encoding), counts in zip(counted.items(), fresh, strict=True):
        known = id_map.filter(pl.col("vocabulary") == name)
        if isinstance(encoding, Category):
            grown = _admit(_forget(_add(known, counts, day), encoding, day), encoding, day)
        else:
            grown = known if known.height else _learn(counts, encoding.capacity - FIRST, day)
        parts.append(grown.with_columns(vocabulary=pl.lit(name)).select(MAP_SCHEMA.keys()))
    return pl.concat(parts)


def check_rows(id_map: pl.DataFrame, declared: Mapping[str, Embedded]) -> None:
    """Refuse maps whose rows reach into the next vocabulary.

    Raises:
        BadWarehouse: the capacity of a vocabulary was reduced below a row that is in use.
    """
    largest = id_map.lazy().group_by("vocabulary").agg(pl.col("row").max()).sort("vocabulary")
    # streamed, a group is a number; else it is the places of all its rows, 100 MiB of a million ids
    highest = dict(largest.collect(engine="streaming").rows())
    for name, row in highest.items():
        if name in declared and row is not None and row >= declared[name].capacity:
            raise BadWarehouse(
                f"id map of {name}",
                f"row {row} is in use, the vocabulary has {declared[name].capacity} rows",
                "raise its capacity again, or give the vocabulary a new name",
            )


def _key(feature: Feature) -> str:
    """The column of the maps in which the feature's values stand."""
    dtype = feature.dtype.inner if isinstance(feature.dtype, pl.List) else feature.dtype
    if isinstance(feature.encoding, Binned):
        return "edge"
    wide = dtype == pl.UInt64() and isinstance(feature.encoding, Category)
    if wide or not (dtype.is_integer() or dtype == pl.String()):
        raise ValueError(
            f"Feature {feature.name!r} is {feature.dtype}, and an id must be a string or an integer of at "
            "most 64 bits, signed for an id map. Cast it in the feature's expression."
        )
    return "id_int" if dtype.is_integer() else "id_text"


def _differences(
    first: Embedded, other: Embedded, first_key: str, other_key: str
) -> list[tuple[str, object, object]]:
    """What two encodings of one vocabulary must share and do not: name, one value, the other."""
    if type(first) is not type(other):
        return [("encoding", type(first).__name__, type(other).__name__)]
    if first_key != other_key:
        return [("ids in", first_key, other_key)]
    shared = [field.name for field in fields(first) if field.name != "length"]
    values = [(name, getattr(first, name), getattr(other, name)) for name in shared]
    return [(name, one, two) for name, one, two in values if one != two]


def _is_mapped(encoding: Embedded) -> bool:
    return isinstance(encoding, Category) or (isinstance(encoding, Binned) and encoding.bins > 0)


def _readers(features: Sequence[Feature], vocabulary: str) -> list[tuple[str, bool, str]]:
    """Columns that a vocabulary counts, whether they are lists, and the map's column for their values."""
    naming = [
        (f.name, f.encoding.length > 0, _key(f))
        for f in features
        if not isinstance(f.encoding, Dense) and f.encoding.vocabulary == vocabulary
    ]
    singles = [reader for reader in naming if not reader[1]]
    return singles or naming


def _count(rows: pl.LazyFrame, readers: list[tuple[str, bool, str]]) -> pl.LazyFrame:
    """Distinct values and how often each was seen; memory grows with the distinct ones alone."""
    columns = []
    for name, is_list, key in readers:
        value = pl.col(name).explode() if is_list else pl.col(name)
        columns.append(rows.select(value.cast(MAP_SCHEMA[key]).alias(key)))
    key = readers[0][2]
    seen = pl.concat(columns).filter(pl.col(key).is_not_null())
    return seen.group_by(key).agg(pl.len().cast(pl.Int64).alias("fresh"))


def _add(known: pl.DataFrame, counts: pl.DataFrame, day: date) -> pl.DataFrame:
    """Counts and days with those of ``day``, in the order of the ids."""
    key = counts.columns[0]
    return (
        known.join(counts, on=key, how="full", coalesce=True)
        .with_columns(
            pl.col("count").fill_null(0) + pl.col("fresh").fill_null(0),
            pl.col("first_seen").fill_null(day),
            pl.when(pl.col("fresh").is_not_null())
            .then(pl.lit(day))
            .otherwise("last_seen")
            .alias("last_seen"),
        )
        .sort(key)
    )


def _forget(entries: pl.DataFrame, encoding: Category, day: date) -> pl.DataFrame:
    if encoding.expire_days is None:
        return entries
    return entries.filter(pl.col("last_seen") > day - timedelta(days=encoding.expire_days))


def _admit(entries: pl.DataFrame, encoding: Category, day: date) -> pl.DataFrame:
    """The lowest free rows to the waiting ids, in the order of the entries."""
    owned = np.zeros(encoding.capacity, dtype=np.bool_)
    owned[:FIRST] = True
    owned[entries["row"].drop_nulls().to_numpy()] = True
    waiting = (entries["row"].is_null() & (entries["count"] >= encoding.admit)).arg_true()
    free = np.flatnonzero(~owned)[: len(waiting)]
    taken = waiting.head(len(free))
    return entries.with_columns(
        entries["row"].scatter(taken, pl.Series(free, dtype=pl.Int32)),
        entries["row_since"].scatter(taken, day),
    )


def _learn(counts: pl.DataFrame, bins: int, day: date) -> pl.DataFrame:
    """The lower edges of quantile bins, without interpolation: each edge is a value that was seen.

    Edge k is the least value with at least the share k / bins of all values below it; edges that fall
    together are one. Where nearly all values are one there is no edge, and a later day is tried.
    """
    values = counts.filter(pl.col("edge").is_finite()).sort("edge")
    total = values["fresh"].sum()
    passed = pl.col("below") * bins // max(total, 1)
    edges = values.with_columns((pl.col("fresh").cum_sum() - pl.col("fresh")).alias("below")).filter(
        passed > passed.shift(1, fill_value=0)
    )
    return edges.select(
        pl.lit(None, dtype=pl.Int64).alias("id_int"),
        pl.lit(None, dtype=pl.String).alias("id_text"),
        "edge",
        (pl.int_range(pl.len()) + FIRST + 1).cast(pl.Int32).alias("row"),
        pl.lit(day).alias("row_since"),
        (pl.col("below").shift(-1, fill_value=total) - pl.col("below")).alias("count"),
        pl.lit(day).alias("first_seen"),
        pl.lit(day).alias("last_seen"),
    )
