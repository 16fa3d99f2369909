"""GradVac: pairs of gradients are turned to the angle that they usually have.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import GradVacWeighting

from models.balancing.aggregated import Aggregated, seeded


class GradVac(Aggregated):
    """As ``PCGrad``, but the least cosine of a pair is not 0: it is the running mean of their cosines.

    A pair of which one has no gradient in the batch keeps its mean.

    Equation: if ``c_ij < m_ij``: ``g_i += |g_i| (m_ij s(c_ij) - c_ij s(m_ij)) / (|g_j| s(m_ij)) g_j`` with
    ``c_ij = cos(g_i, g_j)``, ``s(x) = sqrt(1 - x^2)``; then ``m_ij <- (1 - b) m_ij + b c_ij``.
    Source: Wang et al., Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
    Multilingual Models, ICLR 2021; equation after TorchJD, which also solves it from the Gramian.
    Use: where gradients agree by and large, and ``PCGrad`` would find nothing to do.
    Cost: K backward passes, and K gradients in memory.

    Args:
        num_objectives: K.
        num_shared: not looked at.
        beta: b, the share of the new cosine in the running mean, in [0, 1].
        seed: of the random order in which pairs are looked at.

    Raises:
        ValueError: beta is out of range.
    """

    step: Tensor
    cosine_KK: Tensor

    def __init__(self, num_objectives: int, num_shared: int, *, beta: float = 0.5, seed: int = 0) -> None:
        del num_shared
        super().__init__()
        self.seed = seed
        weighting = GradVacWeighting(beta=beta)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        with seeded(seed, torch.zeros(())):
            # TorchJD makes its running means, all 0, at the first Gramian; a line needs them when it is made
            weighting(torch.zeros(num_objectives, num_objectives, dtype=torch.float64))
        self.weighting = weighting

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        (cosine_KK,) = self.weighting.buffers()
        before_KK = cosine_KK.clone()
        pair_KK = present_K.outer(present_K)
        # always all K: TorchJD forgets its means when the number of gradients changes
        gramian_KK = torch.zeros_like(cosine_KK)
        gramian_KK[pair_KK] = gramian_JJ.flatten() / gramian_JJ.trace()
        with seeded(self.seed, self.step):
            weight_K = self.weighting(gramian_KK)
        cosine_KK.copy_(torch.where(pair_KK, cosine_KK, before_KK))
        return weight_K[present_K]
