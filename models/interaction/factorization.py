"""DeepFM's second order: the products of all pairs of fields, beside the network.

Shapes: B rows, F fields, D numbers per vector, S embedding spaces, X columns of the flat input, H heads,
Q quantities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.inputs import Entry, flat
from models.interaction.base import Interaction
from models.relu_networks import working_dtype


class Factorization(Interaction):
    """The sum of the inner products of all pairs of vectors is added to every logit.

    A head weighs the sum by a number of its own, which begins at 1: DeepFM has one head and no such weight.
    With several embedding spaces the pairs of every space count.

    Equation: ``logit_h += w_h sum_i<j <v_i, v_j>``, computed as ``(|sum_i v_i|^2 - sum_i |v_i|^2) / 2``.
    Source: Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017.
    Use: where ids that meet often decide, and the network is small.
    Cost: two sums over the vectors.

    Args:
        entry: layout of the vectors.
        num_heads: H.
        generator: nothing is drawn.
    """

    def __init__(self, entry: Entry, num_heads: int, *, generator: torch.Generator) -> None:
        del generator
        super().__init__(entry)
        self.weight_H = nn.Parameter(torch.ones(num_heads))

    def forward(self, vectors_SBFD: Tensor, dense_BQ: Tensor) -> tuple[Tensor, Tensor | None]:
        """The flat input, shape (S, B, X), and a term of every logit, shape (B, H)."""
        squared_B = vectors_SBFD.sum(dim=2).square().sum(dim=(0, 2))
        pairs_B = (squared_B - vectors_SBFD.square().sum(dim=(0, 2, 3))) / 2
        return flat(vectors_SBFD, dense_BQ, working_dtype(vectors_SBFD)), pairs_B.unsqueeze(1) * self.weight_H

    def shared_parameters(self) -> list[nn.Parameter]:
        """None: a head has its own weight."""
        return []
