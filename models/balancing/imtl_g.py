"""IMTL-G: an update that has the same projection on every gradient.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

from torch import Tensor
from torchjd.aggregation import IMTLGWeighting

from models.balancing.aggregated import Aggregated


class IMTLG(Aggregated):
    """The weighted mean of the gradients whose projections on the direction of each are equal.

    A weight may be negative. Where the equations contradict each other there is no update.

    Equation: ``g . g_i / |g_i| = g . g_j / |g_j|`` for all i, j; ``g = sum_k w_k g_k``, ``sum_k w_k = 1``.
    Source: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021 (IMTL-G), in the form by
    the pseudo-inverse of Quinton, Rey, Jacobian Descent for Multi-Objective Optimization, 2024, solved by
    TorchJD.
    Use: where gradients differ by orders of magnitude and none may lead.
    Cost: K backward passes, and K gradients in memory.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
    """

    def __init__(self, num_objectives: int, num_shared: int) -> None:
        del num_objectives, num_shared
        super().__init__()
        self.weighting = IMTLGWeighting()

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        return self.weighting(gramian_JJ / gramian_JJ.trace())
