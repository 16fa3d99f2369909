"""MGDA: the shortest of all weighted means of the gradients.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

from torch import Tensor
from torchjd.aggregation import MGDAWeighting

from models.balancing.aggregated import Aggregated


class MGDA(Aggregated):
    """The shortest vector in the convex hull of the gradients: no objective gets worse by a small step.

    Equation: ``min_w |sum_k w_k g_k|^2``, ``w >= 0``, ``sum_k w_k = 1``.
    Source: Sener, Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, Algorithm 2
    (Frank-Wolfe), solved by TorchJD; after Désidéri, Comptes Rendus Mathématique 350, 2012.
    Use: as a reference; it follows the objective with the smallest gradient.
    Cost: K backward passes, K gradients in memory, and up to ``iterations`` products of K by K.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        epsilon: a step of the solver below it is the last, above 0.
        iterations: most steps of the solver, above 0; two objectives need one.

    Raises:
        ValueError: a setting is not above 0.
    """

    def __init__(
        self, num_objectives: int, num_shared: int, *, epsilon: float = 1e-3, iterations: int = 100
    ) -> None:
        del num_objectives, num_shared
        super().__init__()
        self.weighting = MGDAWeighting(epsilon=epsilon, max_iters=iterations)

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        return self.weighting(gramian_JJ)
