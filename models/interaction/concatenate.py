"""No interaction: vectors and quantities side by side.

Shapes: B rows, F fields, D numbers per vector, S embedding spaces, X columns of the flat input, Q quantities.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models.inputs import Entry, flat
from models.interaction.base import Interaction
from models.relu_networks import working_dtype


class Concatenate(Interaction):
    """Leave every interaction to the network above.

    Equation: ``x = [v_1; ...; v_F; dense]``.
    Source: the input layer of ESMM (Ma et al., SIGIR 2018, Figure 2) and of most networks here.
    Use: as the default.
    Cost: none.

    Args:
        entry: layout of the vectors.
        num_heads: H.
        generator: nothing is drawn.
    """

    only_products: ClassVar[bool] = True

    def __init__(self, entry: Entry, num_heads: int, *, generator: torch.Generator) -> None:
        del num_heads, generator
        super().__init__(entry)

    def forward(self, vectors_SBFD: Tensor, dense_BQ: Tensor) -> tuple[Tensor, Tensor | None]:
        """The flat input, shape (S, B, X), and no term of the logits."""
        return flat(vectors_SBFD, dense_BQ, working_dtype(vectors_SBFD)), None
