"""What the encoder hands to a model: one block of rows as tensors, and its declared layout.

Shapes: B rows of the batch, F single-valued fields, L padded positions of all bags side by side,
D dense columns, K objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from models.late.base import Reading

PADDING_ROW = 0
"""Row of the packed table that stands for "nothing here"; its vector is zero and stays zero."""

_LAYOUT = {
    "rows": (np.dtype(np.int64), 2),
    "bag_rows": (np.dtype(np.int64), 2),
    "dense": (np.dtype(np.float32), 2),
    "y": (np.dtype(np.float32), 2),
    "trains": (np.dtype(np.bool_), 2),
    "weight": (np.dtype(np.float32), 1),
    "open": (np.dtype(np.bool_), 2),
    "again": (np.dtype(np.bool_), 2),
    "complete": (np.dtype(np.float32), 2),
}
#: Parts that come together or not at all.
_TOGETHER = ({"y", "trains"}, {"open", "again", "complete"})


@dataclass(frozen=True)
class InputSpec:
    """Layout of the encoded rows of one model line.

    Attributes:
        num_rows: rows of the packed embedding table, all fields together, padding row 0 included.
        num_fields: F, single-valued fields.
        bag_lengths: padded length of each multi-valued field or sequence, in the order of ``bag_rows``.
        num_dense: D, columns that are already scaled by the encoder.
        names: of the fields, then of the bags; ``field_0`` and so on where nothing is said.
        vocabularies: of every single-valued field the first row of its vocabulary in the table, and how many
            rows that has; a field of few is then read by vocabulary (``models.folded``). Empty where nothing
            is said.

    Raises:
        ValueError: a count that cannot be, another number of names or vocabularies, or one that the table
            has not.
    """

    num_rows: int
    num_fields: int
    bag_lengths: tuple[int, ...] = ()
    num_dense: int = 0
    names: tuple[str, ...] = ()
    vocabularies: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError(f"num_rows counts the padding row, so it is at least 1; got {self.num_rows}.")
        if min(self.num_fields, self.num_dense) < 0 or any(length < 1 for length in self.bag_lengths):
            raise ValueError(f"Counts must not be negative and bags not empty, got {self}.")
        if self.num_fields + len(self.bag_lengths) + self.num_dense == 0:
            raise ValueError("A model needs at least one field, bag or dense column.")
        if self.names and len(self.names) != self.num_fields + len(self.bag_lengths):
            raise ValueError(f"Every field and bag has one name, got {self}.")
        if self.vocabularies and len(self.vocabularies) != self.num_fields:
            raise ValueError(f"Every single-valued field has one vocabulary, got {self}.")
        if any(first < 0 or count < 1 or first + count > self.num_rows for first, count in self.vocabularies):
            raise ValueError(f"A vocabulary is one row of the table or more, got {self}.")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, then of the bags."""
        return self.names or tuple(f"field_{n}" for n in range(self.num_fields + len(self.bag_lengths)))

    def width(self, dim: int) -> int:
        """Columns of the network's input when every field and bag has a vector of ``dim`` numbers."""
        return (self.num_fields + len(self.bag_lengths)) * dim + self.num_dense

    def check(self, batch: Batch) -> None:
        """Refuse a batch of another layout.

        Raises:
            ValueError: naming the part, the declared columns and those found.
        """
        for part, expected, tensor in (
            ("rows", self.num_fields, batch.rows_BF),
            ("bag_rows", sum(self.bag_lengths), batch.bag_rows_BL),
            ("dense", self.num_dense, batch.dense_BD),
        ):
            if tensor.shape[1] != expected:
                raise ValueError(
                    f"Batch part {part!r} has {tensor.shape[1]} columns, the model's input declares "
                    f"{expected}. Encode the rows with the views that the model was trained on."
                )


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one step; they share memory with the arrays that they were made from.

    Attributes:
        rows_BF: packed table row of every single-valued field, int64.
        bag_rows_BL: packed table rows of the bags, padded with row 0, int64.
        dense_BD: scaled dense columns, float32.
        weight_B: weight of the row in every loss, float32.
        y_BK: labels 0 or 1, float32; a child's label is joint (it implies its parent's). Of a value, the
            sum in the objective's unit, 0 where its parent did not happen. ``None`` when the rows are only
            scored.
        trains_BK: the label is newly final and to be learned now, bool. What ``y_BK`` holds elsewhere,
            NaN included, is never looked at. ``None`` when the rows are only scored.
        reading: how far labels could be known; ``None`` where all that train are final.
    """

    rows_BF: Tensor
    bag_rows_BL: Tensor
    dense_BD: Tensor
    weight_B: Tensor
    y_BK: Tensor | None = None
    trains_BK: Tensor | None = None
    reading: Reading | None = None

    def __len__(self) -> int:
        return len(self.rows_BF)

    @property
    def labels(self) -> tuple[Tensor, Tensor]:
        """``(y_BK, trains_BK)`` of a batch to learn from.

        Raises:
            ValueError: the batch was made for scoring.
        """
        if self.y_BK is None or self.trains_BK is None:
            raise ValueError("This batch holds no labels; learning needs 'y' and 'trains'.")
        return self.y_BK, self.trains_BK

    def to(self, device: torch.device) -> Batch:
        """The same rows there; itself if they are."""
        if self.rows_BF.device == device:
            return self
        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: tensor.to(device) for name, tensor in present.items()})

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Batch:
        """Wrap arrays without copying them; read-only arrays, as Arrow hands out, are welcome.

        Args:
            arrays: ``rows``, ``bag_rows``, ``dense`` and optionally ``y``, ``trains`` (both or neither),
                ``weight`` (1 for every row if absent) and ``open``, ``again``, ``complete`` (all or none).

        Raises:
            ValueError: a missing or unknown name, another number of rows or of dimensions.
            TypeError: another dtype; nothing is converted, so that an id is never rounded.
        """
        names = set(arrays)
        needed = {"rows", "bag_rows", "dense"}.union(*(parts for parts in _TOGETHER if parts & names))
        if needed - names or names - set(_LAYOUT):
            raise ValueError(
                f"A batch is made of {', '.join(_LAYOUT)}; missing: {sorted(needed - names)}, "
                f"unknown: {sorted(names - set(_LAYOUT))}."
            )
        num_rows = len(arrays["rows"])
        tensors = {name: _wrap(name, array, num_rows) for name, array in arrays.items()}
        return cls(
            rows_BF=tensors["rows"],
            bag_rows_BL=tensors["bag_rows"],
            dense_BD=tensors["dense"],
            weight_B=tensors["weight"] if "weight" in tensors else torch.ones(num_rows),
            y_BK=tensors.get("y"),
            trains_BK=tensors.get("trains"),
            reading=Reading(tensors["open"], tensors["again"], tensors["complete"])
            if "open" in tensors
            else None,
        )


def _wrap(name: str, array: np.ndarray[Any, Any], num_rows: int) -> Tensor:
    dtype, dimensions = _LAYOUT[name]
    if array.dtype != dtype:
        raise TypeError(f"Batch part {name!r} must be {dtype}, got {array.dtype}.")
    if array.ndim != dimensions or len(array) != num_rows:
        raise ValueError(
            f"Batch part {name!r} must have {dimensions} dimensions and {num_rows} rows, "
            f"got shape {array.shape}."
        )
    # torch.from_numpy warns on read-only memory; DLPack does not, and no model writes to its input
    return torch.from_numpy(array) if array.flags.writeable else from_dlpack(array)
