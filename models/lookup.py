"""What a line looks up for a batch: the vectors where gradients end, and how a network reads them.

Shapes: B rows, P looked-up positions, T ids of small vocabularies, N = T and all other positions,
D numbers per vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.batch import Batch, InputSpec
from models.embedding import PackedEmbedding, Read
from models.folded import Fold, Folded, Places


@dataclass(frozen=True, eq=False)
class Lookup:
    """Vectors of a batch, every position its own.

    Attributes:
        embedding: the table.
        batch: the rows.
        rows: of the table, shape (B, P).
        vectors: a copy of their vectors, shape (B, P, D).
    """

    embedding: PackedEmbedding
    batch: Batch
    rows: Tensor
    vectors: Tensor

    def read(self) -> Read:
        """What a network reads of the batch."""
        return self.embedding.read(self.vectors, self.batch)


@dataclass(frozen=True, eq=False)
class FoldedLookup(Lookup):
    """Vectors of a batch, those of small vocabularies once per id: as one row of N positions."""

    places: Places

    def read(self) -> Read:
        """What a network reads of the batch."""
        fold, size = self.places.fold, len(self.batch)
        ids = len(fold.rows_T)
        vectors_TD, rest_ND = self.vectors.squeeze(0).split_with_sizes((ids, self.rows.shape[1] - ids))
        rest_BPD = rest_ND.view(size, len(rest_ND) // size, self.vectors.shape[2])
        pooled_BKD, dense_BQ, bags, filled = self.embedding.read(rest_BPD, self.batch)
        shape = size, pooled_BKD.shape[1] + len(fold.fields), self.vectors.shape[2]
        vectors_BFD = Folded.of(self.places, vectors_TD, pooled_BKD.flatten(1), shape)
        return vectors_BFD, dense_BQ, bags, filled


def look_up(embedding: PackedEmbedding, batch: Batch, folds: InputSpec | None) -> Lookup:
    """Look up every position once, and every id of fields that are read by vocabulary.

    Args:
        embedding: the table.
        batch: the rows.
        folds: layout of the batch; none where no field may be read by vocabulary.

    Raises:
        IndexError: a row is outside of the table, or of the vocabulary of its field.
    """
    fold = Fold.of(folds, len(batch), embedding.weight_RD.shape[1]) if folds else None
    if fold is None:
        return Lookup(embedding, batch, *embedding.gather(batch.rows_BF, batch.bag_rows_BL))
    places = Places(fold, batch.rows_BF)
    rest_BP = torch.cat((batch.rows_BF.index_select(1, fold.kept_K), batch.bag_rows_BL), dim=1)
    rows_N = torch.cat((places.looked_up(), rest_BP.flatten()))
    vectors_ND = embedding.vectors(rows_N)
    return FoldedLookup(embedding, batch, rows_N.unsqueeze(0), vectors_ND.unsqueeze(0), places)
