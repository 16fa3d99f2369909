"""DCN-v2's cross network: every layer multiplies the input once more with itself.

Shapes: B rows, F fields, D numbers per vector, S embedding spaces, X columns of the flat input, Q quantities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import uniform
from models.inputs import Entry, flat
from models.interaction.base import Interaction


class Cross(Interaction):
    """Explicit products of columns, of a degree that grows by one with every layer; then any network on top.

    Equation: ``x_l+1 = x_0 * (W_l x_l + b_l) + x_l`` (stacked form), with weights of its own in every
    embedding space.
    Source: Wang et al., DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
    Rank Systems, WWW 2021.
    Use: where products of few fields decide, such as user group by category.
    Cost: one X by X product a layer.

    Args:
        entry: layout of the vectors.
        num_heads: not looked at.
        layers: number of crosses, at least one.
        generator: source of the initial weights.

    Raises:
        ValueError: no layer.
    """

    def __init__(self, entry: Entry, num_heads: int, *, layers: int = 2, generator: torch.Generator) -> None:
        del num_heads
        super().__init__(entry)
        if layers < 1:
            raise ValueError(f"Cross needs at least one layer, got layers={layers}.")
        spaces, width = entry.spaces, entry.width
        self.weights = nn.ParameterList(
            uniform(spaces, width, width, fan_in=width, generator=generator) for _ in range(layers)
        )
        self.biases = nn.ParameterList(torch.zeros(spaces, 1, width) for _ in range(layers))

    def forward(self, vectors_SBFD: Tensor, dense_BQ: Tensor) -> tuple[Tensor, Tensor | None]:
        """The flat input, shape (S, B, X), and no term of the logits."""
        first_SBX = x_SBX = flat(vectors_SBFD, dense_BQ)
        for weight_SXX, bias_S1X in zip(self.weights, self.biases, strict=True):
            x_SBX = torch.addcmul(x_SBX, first_SBX, torch.baddbmm(bias_S1X, x_SBX, weight_SXX))
        return x_SBX, None
