"""PCGrad: what one gradient takes back of another is projected away.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import PCGradWeighting

from models.balancing.aggregated import Aggregated, seeded


class PCGrad(Aggregated):
    """Of every gradient its part against another one is taken away; then all are added.

    The others come in random order, drawn from the seed and the number of the batch.

    Equation: ``g_i -= (g_i . g_j) / |g_j|^2 g_j`` for all j with ``g_i . g_j < 0``; ``g = sum_i g_i``.
    Source: Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020, Algorithm 1; solved by TorchJD
    from the Gramian.
    Use: where gradients of objectives often point against each other.
    Cost: K backward passes, and K gradients in memory.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        seed: of the random order.
    """

    step: Tensor

    def __init__(self, num_objectives: int, num_shared: int, *, seed: int = 0) -> None:
        del num_objectives, num_shared
        super().__init__()
        self.seed = seed
        self.weighting = PCGradWeighting()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        with seeded(self.seed, self.step):
            return self.weighting(gramian_JJ)
