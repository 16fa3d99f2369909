"""All embedding tables as one: a single gather per batch, whatever the number of fields.

Shapes: B rows, F single-valued fields, L padded positions of all bags, P = F + L positions looked up,
N rows to reset, R rows of the packed table, D numbers per vector.
"""

from __future__ import annotations

from copy import copy
from typing import Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import PADDING_ROW, Batch
from models.huge_pages import zero_table
from models.native.library import multiply, read
from models.native.rows import rounded_vectors

#: What a network reads of a batch: the pooled vectors, the quantities, and by bag the vectors one by one and
#: which positions are filled; as ``Network.forward`` takes them.
Read: TypeAlias = tuple[Tensor, Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]


class PackedEmbedding(nn.Module):
    """Vectors of every field in one table; bags are the mean over what is not padding.

    The table is a buffer, not a parameter: autograd would otherwise make a gradient as large as the
    table. Training asks for ``gather``, which copies the vectors of the batch into a leaf of the graph,
    and hands the leaf's gradient to ``LazyAdam``, so that the cost of a step does not grow with R.

    Args:
        num_rows: R, padding row 0 included.
        dim: D.
        bag_lengths: padded length of every bag, in the order of the bag columns.
        scale: standard deviation of the normal initial values.
        generator: source of the initial values.
    """

    weight_RD: Tensor

    def __init__(
        self,
        num_rows: int,
        dim: int,
        *,
        bag_lengths: tuple[int, ...] = (),
        scale: float = 0.01,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.register_buffer("weight_RD", _initial(num_rows, dim, scale, generator))
        self.bag_lengths, self.scale = bag_lengths, scale

    @torch.no_grad()
    def reset(self, rows_N: Tensor, generator: torch.Generator) -> None:
        """Give rows back the values that they began with; a row that was never trained keeps its bytes.

        All R rows are drawn anew for it, in the order of the first time.

        Args:
            rows_N: table rows, int64.
            generator: in the state that the table was made from.

        Raises:
            IndexError: a row is negative or not below R.
        """
        first_RD = _initial(len(self.weight_RD), self.weight_RD.shape[1], self.scale, generator)
        first_ND = first_RD.index_select(0, rows_N.to(first_RD.device)).to(self.weight_RD.device)
        self.weight_RD.index_copy_(0, rows_N.to(self.weight_RD.device), first_ND)

    def gather(
        self, rows_BF: Tensor, bag_rows_BL: Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Look up every position once.

        Args:
            rows_BF: table rows of the fields.
            bag_rows_BL: of the bags.
            dtype: of the copy.

        Returns:
            The table rows, shape (B, P), and a copy of their vectors, shape (B, P, D).

        Raises:
            IndexError: a row is negative or not below R.
        """
        rows_BP = torch.cat((rows_BF, bag_rows_BL), dim=1) if self.bag_lengths else rows_BF
        vectors_ND = self.vectors(rows_BP.flatten(), dtype)
        return rows_BP, vectors_ND.view(*rows_BP.shape, self.weight_RD.shape[1])

    def vectors(self, rows_N: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """A copy of these rows' vectors in this dtype, shape (N, D).

        Raises:
            IndexError: a row is negative or not below R.
        """
        try:
            if multiply(dtype, self.weight_RD.device) and read(self.weight_RD):
                return rounded_vectors(self.weight_RD, rows_N)
            # bags of one: a processor fetches their rows ahead, in 3/5 of the time of a plain gather
            return functional.embedding_bag(rows_N.unsqueeze(1), self.weight_RD, mode="sum").to(dtype)
        except (RuntimeError, IndexError) as error:
            outside = (rows_N < 0) | (rows_N >= len(self.weight_RD))
            if not outside.any():
                raise
            row, count = int(rows_N[outside][0]), len(self.weight_RD)
            raise IndexError(f"Row {row} is not one of the table, which has {count} rows.") from error

    def pool(self, vectors_BPD: Tensor, bag_rows_BL: Tensor) -> Tensor:
        """The vectors of the fields and the means of the bags, shape (B, F + number of bags, D).

        An empty bag is the zero vector. Padding needs no mask here: its vector is zero, and what flows
        back to it is dropped by the optimiser.
        """
        if not self.bag_lengths:
            return vectors_BPD
        num_fields = vectors_BPD.shape[1] - bag_rows_BL.shape[1]
        parts = [vectors_BPD[:, :num_fields]]
        bags = zip(self.bags(vectors_BPD), self.filled(bag_rows_BL), strict=True)
        for bag_BlD, filled_Bl in bags:
            filled_B1 = filled_Bl.sum(dim=1, keepdim=True).clamp_(min=1)
            parts.append((bag_BlD.sum(dim=1) / filled_B1).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def read(self, vectors_BPD: Tensor, batch: Batch) -> Read:
        """What a network reads of a batch with these vectors."""
        bag_rows_BL = batch.bag_rows_BL
        pooled_BFD = self.pool(vectors_BPD, bag_rows_BL)
        return pooled_BFD, batch.dense_BD, self.bags(vectors_BPD), self.filled(bag_rows_BL)

    def with_bags(self, bag_lengths: tuple[int, ...]) -> Self:
        """The same table, for batches that have other bags."""
        other = copy(self)
        other.bag_lengths = bag_lengths
        return other

    def bags(self, vectors_BPD: Tensor) -> tuple[Tensor, ...]:
        """The vectors of every bag one by one, each of shape (B, its length, D)."""
        if not self.bag_lengths:
            return ()
        return vectors_BPD[:, -sum(self.bag_lengths) :].split_with_sizes(self.bag_lengths, dim=1)

    def filled(self, bag_rows_BL: Tensor) -> tuple[Tensor, ...]:
        """By bag, which positions are not padding, each of shape (B, its length)."""
        if not self.bag_lengths:
            return ()
        return (bag_rows_BL != PADDING_ROW).split_with_sizes(self.bag_lengths, dim=1)


def _initial(num_rows: int, dim: int, scale: float, generator: torch.Generator) -> Tensor:
    weight_RD = zero_table(num_rows, dim).normal_(0.0, scale, generator=generator)
    weight_RD[PADDING_ROW] = 0.0
    return weight_RD
