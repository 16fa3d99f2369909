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
from models.native.library import multiply
from models.network import Network


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


@dataclass(frozen=True)
class How:
    """How a line looks up.

    Attributes:
        folds: layout of the batches; none where no field may be read by vocabulary.
        dtype: of the vectors.
    """

    folds: InputSpec | None = None
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(
        cls, network: Network, spec: InputSpec, products: torch.dtype, device: torch.device, *, compared: bool
    ) -> How:
        """The fastest way there.

        With the compiled kernels first layers are so fast that reading by vocabulary gains nothing, and what
        will be rounded is rounded when it is fetched.

        Args:
            network: that reads the vectors.
            spec: layout of the batches.
            products: dtype of its products.
            device: of the line.
            compared: gradients of the vectors are looked at position by position.
        """
        if compared or network.spaces > 1 or device.type != "cpu":
            return cls()
        if not multiply(products, device):
            return cls(folds=spec)
        return cls(dtype=products) if network.interaction.only_products and not spec.bag_lengths else cls()


def look_up(embedding: PackedEmbedding, batch: Batch, how: How) -> Lookup:
    """Look up every position once, and every id of fields that are read by vocabulary.

    Args:
        embedding: the table.
        batch: the rows.
        how: the way.

    Raises:
        IndexError: a row is outside of the table, or of the vocabulary of its field.
    """
    fold = Fold.of(how.folds, len(batch), embedding.weight_RD.shape[1]) if how.folds else None
    if fold is None:
        return Lookup(embedding, batch, *embedding.gather(batch.rows_BF, batch.bag_rows_BL, how.dtype))
    places = Places(fold, batch.rows_BF)
    rest_BP = torch.cat((batch.rows_BF.index_select(1, fold.kept_K), batch.bag_rows_BL), dim=1)
    rows_N = torch.cat((places.looked_up(), rest_BP.flatten()))
    vectors_ND = embedding.vectors(rows_N, how.dtype)
    return FoldedLookup(embedding, batch, rows_N.unsqueeze(0), vectors_ND.unsqueeze(0), places)
