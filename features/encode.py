"""Readable features to integers and floats; the same code for training and for scoring.

Ids become rows of one packed embedding table. Row 0 of the table is padding. Each vocabulary owns a fixed
range of rows: the first is "missing" (null), the second "unknown" (an id without a row of its own), then
the ids of an id map, the buckets of a hash, or the bins of a quantity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from features.encodings import FIRST, MISSING, UNKNOWN, Binned, Category, Dense, Embedded, Hashed
from features.given_rows import GivenRows
from features.hashing import cross, hash_ids
from features.id_lookup import IdLookup
from features.id_maps import check_rows, vocabularies
from features.view import Feature

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
        vocabularies: the encoding behind every vocabulary.
    """

    singles: tuple[Feature, ...]
    bags: tuple[Feature, ...]
    dense: tuple[Feature, ...]
    offsets: Mapping[str, int]
    num_rows: int
    vocabularies: Mapping[str, Embedded]

    @classmethod
    def of(cls, features: Sequence[Feature]) -> Layout:
        """The layout of these features.

        Raises:
            ValueError: two features declare one vocabulary differently, an id is neither integer nor
                string, or a cross names a feature that does not have one id a row.
        """
        declared = vocabularies(features)
        offsets, next_row = {}, 1
        for vocabulary, encoding in declared.items():
            offsets[vocabulary] = next_row
            next_row += encoding.capacity
        embedded = [f for f in features if not isinstance(f.encoding, Dense)]
        layout = cls(
            singles=tuple(f for f in embedded if _embedded(f).length == 0),
            bags=tuple(f for f in embedded if _embedded(f).length > 0),
            dense=tuple(f for f in features if isinstance(f.encoding, Dense)),
            offsets=offsets,
            num_rows=next_row,
            vocabularies=declared,
        )
        layout._check_crosses()
        return layout

    @property
    def bag_lengths(self) -> tuple[int, ...]:
        """Padded length of each bag."""
        return tuple(_embedded(feature).length for feature in self.bags)

    @property
    def dense_columns(self) -> tuple[str, ...]:
        """Names of the columns of ``dense``; a flag follows the quantity that it belongs to."""
        names: list[str] = []
        for feature in self.dense:
            names.append(feature.name)
            if isinstance(feature.encoding, Dense) and feature.encoding.flag:
                names.append(f"{feature.name}_missing")
        return tuple(names)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """First packed row and number of rows of the vocabulary of every single-valued feature."""
        encodings = [_embedded(feature) for feature in self.singles]
        return tuple(
            (self.offsets[e.vocabulary], self.vocabularies[e.vocabulary].capacity) for e in encodings
        )

    def part(self, names: Collection[str]) -> Layout:
        """The features of these names alone, with the rows of the table where they are."""
        singles, bags, dense = (
            tuple(f for f in kind if f.name in names) for kind in (self.singles, self.bags, self.dense)
        )
        return replace(self, singles=singles, bags=bags, dense=dense)

    def _check_crosses(self) -> None:
        ids = {f.name for f in self.singles if not isinstance(f.encoding, Binned)}
        for feature in self.singles:
            if isinstance(feature.encoding, Hashed) and (absent := set(feature.encoding.by) - ids):
                raise ValueError(
                    f"Feature {feature.name!r} is crossed with {sorted(absent)}; a cross needs features of "
                    f"the same scenario with one id a row, which are {sorted(ids)}."
                )


class Encoder:
    """Turns sample columns into the arrays of a batch, by one layout and one version of the id maps.

    Raises:
        BadWarehouse: the maps hold a row beyond the capacity of its vocabulary.
    """

    def __init__(self, layout: Layout, id_map: pl.DataFrame) -> None:
        check_rows(id_map, layout.vocabularies)
        self.layout = layout
        self._given: dict[str, GivenRows] = {}
        self._edges: dict[str, np.ndarray] = {}
        self._ids: dict[str, IdLookup] = {}
        # one vocabulary at a time, and of it what is needed: all parts of a large map are a second one
        owned = id_map.select("vocabulary", "id_int", "id_text", "edge", "row", "row_since")
        for vocabulary in id_map["vocabulary"].unique():
            part = owned.filter((pl.col("vocabulary") == vocabulary) & pl.col("row").is_not_null())
            if part.is_empty():
                continue
            self._given[vocabulary] = GivenRows.of(part)
            if isinstance(layout.vocabularies.get(vocabulary), Binned):
                self._edges[vocabulary] = part["edge"].sort().to_numpy()
            else:
                key = "id_text" if part["id_int"].null_count() else "id_int"
                self._ids[vocabulary] = IdLookup(part[key], part["row"])

    def encode(self, frame: pl.DataFrame, *, dtype: type = np.int64) -> dict[str, np.ndarray]:
        """Arrays ``rows`` (B, F), ``bag_rows`` (B, L) and ``dense`` (B, D) float32.

        Args:
            frame: a column per feature of the layout, in readable form.
            dtype: of the rows; ``held_dtype`` where many are held.
        """
        height, layout = frame.height, self.layout
        found = (self._bag(frame[feature.name], _embedded(feature)) for feature in layout.bags)
        bags: list[np.ndarray] = [bag.astype(dtype, copy=False) for bag in found]
        singles = (self._single(frame, feature) for feature in layout.singles)
        dense = (column for f in layout.dense for column in _dense(frame[f.name], f))
        return {
            "rows": _stack(singles, (height, len(layout.singles)), dtype),
            "bag_rows": np.concatenate([np.empty((height, 0), dtype=dtype), *bags], axis=1),
            "dense": _stack(dense, (height, len(layout.dense_columns)), np.float32),
        }

    @property
    def held_dtype(self) -> type:
        """The smallest dtype that has all rows of the table."""
        return np.int32 if self.layout.num_rows <= np.iinfo(np.int32).max else np.int64

    def part(self, names: Collection[str]) -> Encoder:
        """For frames that have the features of these names alone, and what they are crossed with."""
        part = copy(self)
        part.layout = self.layout.part(names)
        return part

    def lengths(self, frame: pl.DataFrame) -> np.ndarray:
        """How many places of each bag are read, (B, bags) int64; those behind them hold padding row 0."""
        bags = self.layout.bags
        counts = (_lengths(frame[f.name], _embedded(f).length) for f in bags)
        return _stack(counts, (frame.height, len(bags)), np.int64)

    def unknown_keys(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Which rows of an encoded block have a ``user`` or ``item`` without a row of its own, (B,) bool."""
        return {
            feature.name.removesuffix("_id"): arrays["rows"][:, place]
            == self.layout.offsets[_embedded(feature).vocabulary] + UNKNOWN
            for place, feature in enumerate(self.layout.singles)
            if feature.name in ("user_id", "item_id")
        }

    def rows_given_after(self, day: date) -> np.ndarray:
        """Packed rows whose owner got them after ``day``, int64 in ascending order.

        A model that last learned on ``day`` knows these rows as those of other ids, or not at all.
        """
        given = [
            given.after(day) + self.layout.offsets[vocabulary]
            for vocabulary, given in self._given.items()
            if vocabulary in self.layout.offsets
        ]
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *given]))

    def _single(self, frame: pl.DataFrame, feature: Feature) -> np.ndarray:
        """Packed rows of one column; null goes to the vocabulary's own row."""
        encoding = _embedded(feature)
        values, first = frame[feature.name], self.layout.offsets[encoding.vocabulary]
        absent = _nulls(values)
        if isinstance(encoding, Hashed) and encoding.by:
            hashes = hash_ids(values, encoding.seed)
            for name in encoding.by:
                hashes = cross(hashes, hash_ids(frame[name], encoding.seed))
                absent |= _nulls(frame[name])
            places = _buckets(hashes, encoding)
        else:
            places = self._places(values, encoding)
        if isinstance(encoding, Binned):
            absent |= np.isnan(_floats(values))
        packed: np.ndarray = np.add(places, first, dtype=np.int64)
        packed[absent] = first + MISSING
        return packed

    def _bag(self, lists: pl.Series, encoding: Embedded) -> np.ndarray:
        """Packed rows of the first values of each list, (B, length); null and what is not there is row 0."""
        counts = _lengths(lists, encoding.length)
        values = lists.list.head(encoding.length).explode(empty_as_null=False, keep_nulls=False)
        first = self.layout.offsets[encoding.vocabulary]
        packed = np.add(self._places(values, encoding), first, dtype=np.int64)
        row = np.repeat(np.arange(len(lists)), counts)
        place = np.arange(len(values)) - np.repeat(counts.cumsum() - counts, counts)
        padded = np.zeros((len(lists), encoding.length), dtype=np.int64)
        padded[row, place] = np.where(values.is_null().to_numpy(), 0, packed)
        return padded

    def _places(self, values: pl.Series, encoding: Embedded) -> np.ndarray:
        """Rows within the vocabulary, int32 or int64; what stands at a null is of no meaning."""
        if isinstance(encoding, Hashed):
            return _buckets(hash_ids(values, encoding.seed), encoding)
        if isinstance(encoding, Category):
            known = self._ids.get(encoding.vocabulary)
            return np.full(len(values), UNKNOWN, dtype=np.int64) if known is None else known.find(values)
        edges = np.array(encoding.edges or self._edges.get(encoding.vocabulary, ()))
        if not len(edges):
            return np.full(len(values), UNKNOWN, dtype=np.int64)
        return FIRST + np.searchsorted(edges, _floats(values), side="right")


def _nulls(values: pl.Series) -> np.ndarray:
    """Which values are null, bool, to be written to; asking each takes as long as looking all of them up."""
    if not values.null_count():
        return np.zeros(len(values), dtype=np.bool_)
    return np.array(values.is_null())


def _buckets(hashes: np.ndarray, encoding: Hashed) -> np.ndarray:
    return FIRST + (hashes % np.uint64(encoding.buckets)).astype(np.int64)


def _floats(values: pl.Series) -> np.ndarray:
    """Quantities as float64, null as NaN."""
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _lengths(lists: pl.Series, length: int) -> np.ndarray:
    """Values of each list that are read; a null list has none."""
    return lists.list.len().fill_null(0).clip(0, length).cast(pl.Int64).to_numpy()


def _embedded(feature: Feature) -> Embedded:
    assert not isinstance(feature.encoding, Dense)  # noqa: S101 - callers select by it
    return feature.encoding


def _dense(values: pl.Series, feature: Feature) -> list[np.ndarray]:
    assert isinstance(feature.encoding, Dense)  # noqa: S101 - callers select by it
    x = values.cast(pl.Float64)
    if feature.encoding.scale == "log1p":
        x = (x + 1).log()
    elif feature.encoding.scale == "logit":
        x = (x / (1 - x)).log()
    standard = ((x - feature.encoding.center) / feature.encoding.spread).clip(-CLIP, CLIP)
    columns = [standard.fill_null(0.0).cast(pl.Float32).to_numpy()]
    if feature.encoding.flag:
        columns.append(values.is_null().cast(pl.Float32).to_numpy())
    return columns


def _stack(columns: Iterable[np.ndarray], shape: tuple[int, int], dtype: type) -> np.ndarray:
    """Columns side by side; each may be made when the one before it is in its place."""
    stacked: np.ndarray = np.empty(shape, dtype=dtype)
    for place, column in enumerate(columns):
        stacked[:, place] = column
    return stacked
