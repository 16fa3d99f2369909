"""Aligned-MTL: gradients are made orthogonal and equally long before they are averaged.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torchjd.aggregation import AlignedMTLWeighting

from models.balancing.aggregated import Aggregated


class AlignedMTL(Aggregated):
    """The mean of the gradients after their principal components were given the same size.

    Equation: ``w = sqrt(s) V L^(-1/2) V^T 1 / K`` with ``G G^T = V L V^T`` and s one of the eigenvalues.
    Source: Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023,
    Algorithm 1, solved by TorchJD.
    Use: where one objective dominates and others point against it.
    Cost: K backward passes, K gradients in memory, and the eigenvalues of a matrix of K by K.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        scale: s, the least eigenvalue that is not 0, the median of them, or their mean ("rmse").
    """

    def __init__(
        self, num_objectives: int, num_shared: int, *, scale: Literal["min", "median", "rmse"] = "min"
    ) -> None:
        del num_objectives, num_shared
        super().__init__()
        self.weighting = AlignedMTLWeighting(scale_mode=scale)

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        return self.weighting(gramian_JJ)
