"""How a feature becomes numbers: as an id with a row of its own, by hash, by bin, or as a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import ClassVar, Literal

#: Every vocabulary begins with a row for null and a row for what has none of its own.
MISSING, UNKNOWN, FIRST = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Category:
    """An id or code, encoded as one row of the packed embedding table, by the id map of its vocabulary.

    Attributes:
        vocabulary: name of the id map; features that name the same one share its rows.
        capacity: rows of the vocabulary, of which the first two are "missing" and "unknown".
        admit: impressions after which an id gets a row of its own; until then it trains "unknown".
        expire_days: an id that was not seen on this many days in a row is forgotten: its row is free for
            another id, and should it return, it is counted from nothing. ``None`` keeps ids for good.
        length: 0 for one value a row; for a list, how many of its first values are read (padded).
    """

    vocabulary: str
    capacity: int
    admit: int = 1
    expire_days: int | None = None
    length: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 3:
            raise ValueError(
                f"Capacity of vocabulary {self.vocabulary!r} must be at least 3, got {self.capacity}."
            )
        for name, least in (("admit", 1), ("expire_days", 1), ("length", 0)):
            found = getattr(self, name)
            if found is not None and found < least:
                raise ValueError(
                    f"{name} of vocabulary {self.vocabulary!r} must be at least {least}, got {found}."
                )


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """An id or code, or a cross of several, encoded as one of ``buckets`` rows by `features.hashing`.

    It needs no id map and is never unknown; ids that fall into one bucket share its row, for good.

    Attributes:
        vocabulary: name of the range of rows; features that name the same one share it.
        buckets: rows of the range beside "missing" and "unknown".
        seed: another seed, other collisions; 0 to 2**64 - 1.
        by: names of features with one id a row that the value is crossed with, in this order. A row that
            lacks one of them is missing.
        length: 0 for one value a row; for a list, how many of its first values are read (padded).
    """

    vocabulary: str
    buckets: int
    seed: int = 0
    by: tuple[str, ...] = ()
    length: int = 0

    def __post_init__(self) -> None:
        if self.buckets < 1 or self.length < 0:
            raise ValueError(
                f"Vocabulary {self.vocabulary!r} needs at least 1 bucket and no negative length, "
                f"got {self.buckets} and {self.length}."
            )
        if not 0 <= self.seed < 2**64:
            raise ValueError(
                f"Seed of vocabulary {self.vocabulary!r} must lie in 0..2**64 - 1, got {self.seed}."
            )
        if self.by and self.length:
            raise ValueError(f"Vocabulary {self.vocabulary!r}: a list cannot be crossed.")

    @property
    def capacity(self) -> int:
        """Rows of the vocabulary."""
        return FIRST + self.buckets


@dataclass(frozen=True, kw_only=True)
class Binned:
    """A quantity, encoded as the embedding row of the bin that it lies in.

    Edges e1 < e2 < ... make the bins (-inf, e1), [e1, e2), ... [en, inf). NaN is missing, as null is.

    Attributes:
        vocabulary: name of the range of rows; features that name the same one share it.
        edges: the edges, in the unit of the feature.
        bins: instead of edges: how many quantile bins to learn from the first day whose values differ
            enough to be cut. Their edges are kept in the id maps for good; before, a value is unknown.
    """

    length: ClassVar[int] = 0

    vocabulary: str
    edges: tuple[float, ...] = ()
    bins: int = 0

    def __post_init__(self) -> None:
        if bool(self.edges) == bool(self.bins) or (self.bins and self.bins < 2):
            raise ValueError(
                f"Vocabulary {self.vocabulary!r} needs edges or a number of bins of at least 2, "
                f"got edges {self.edges} and {self.bins} bins."
            )
        if not all(map(isfinite, self.edges)) or any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"Edges of vocabulary {self.vocabulary!r} must ascend, got {self.edges}.")

    @property
    def capacity(self) -> int:
        """Rows of the vocabulary."""
        return FIRST + (self.bins or len(self.edges) + 1)


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A quantity, encoded as one float.

    Attributes:
        scale: ``log1p`` for counts, ``logit`` for probabilities strictly inside (0, 1), ``identity``
            for the value itself.
        center: what a usual value is after scaling; it becomes 0, as does a missing one.
        spread: how far values usually lie from ``center`` after scaling; that far becomes 1.
        flag: whether a second float says that the value was missing.
    """

    scale: Literal["identity", "log1p", "logit"] = "identity"
    center: float = 0.0
    spread: float = 1.0
    flag: bool = False

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError(f"Spread must be positive, got {self.spread}.")


Embedded = Category | Hashed | Binned
"""Encodings whose values are rows of the packed embedding table."""

Encoding = Embedded | Dense
