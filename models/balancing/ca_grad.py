"""CAGrad: near the mean gradient, the direction that is best for the worst objective.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.balancing.aggregated import Aggregated

Array = NDArray[np.float64]

_MOST_STEPS = 30
_NEAR = 0.1
"""Newton steps for a barrier end where one more would lower the problem by less than this share of it."""

_STATIONARY = 1e-4
"""A norm of the worst case below it, where all gradients together have norm 1, counts as 0, as in TorchJD."""


class CAGrad(Aggregated):
    """The mean gradient, moved within a ball so that the least improved objective improves most.

    Where the worst case, the weighted mean ``g_w``, is 0, nothing in the ball improves all objectives, and
    there is no update of what is shared.

    Equation: ``d = g_0 + c |g_0| g_w / |g_w|``, ``w = argmin w . (G g_0) + c |g_0| |g_w|`` on the simplex,
    with ``g_w = sum_k w_k g_k`` and ``g_0`` the mean.
    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, Algorithm 1.
    Use: where ``PCGrad`` would, with the plain mean at c = 0 and more of ``MGDA`` as c grows.
    Cost: K backward passes, K gradients in memory, and some 50 Newton steps of K unknowns.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        c: radius of the ball over the norm of the mean gradient, not negative; the paper's method keeps its
            guarantee below 1.

    Raises:
        ValueError: c is negative.
    """

    def __init__(self, num_objectives: int, num_shared: int, *, c: float = 0.5) -> None:
        del num_objectives, num_shared
        super().__init__()
        if c < 0:
            raise ValueError(f"c must not be negative, got {c}.")
        self.c = c

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        # plain arrays: for so few numbers torch would only wait for itself
        gramian = (gramian_JJ / gramian_JJ.trace()).numpy()
        mean_J = np.full(len(gramian), 1 / len(gramian))
        radius = self.c * np.sqrt(mean_J @ gramian @ mean_J)
        worst_J = _worst(gramian, gramian @ mean_J, radius)
        norm = np.sqrt(worst_J @ gramian @ worst_J)
        return torch.from_numpy(mean_J + worst_J * (radius / norm) if norm >= _STATIONARY else 0 * mean_J)


def _worst(gramian_JJ: Array, pull_J: Array, radius: float) -> Array:
    """Minimum of ``w . pull + radius |g_w|`` on the simplex, by Newton steps along the central path.

    A logarithmic barrier (Boyd, Vandenberghe, Convex Optimization, 2004, chapter 11) keeps weights above 0
    and is lowered a hundredfold until it is far below what is asked of the weights.
    """
    count = len(pull_J)
    w_J = np.full(count, 1 / count)
    system = np.zeros((count + 1, count + 1))
    system[:count, count] = system[count, :count] = 1.0
    for barrier in 10.0 ** -np.arange(1, 14, 2):
        for _ in range(_MOST_STEPS):
            slope_J, curve_JJ = _slope_and_curve(gramian_JJ, pull_J, radius, barrier, w_J)
            system[:count, :count] = curve_JJ
            step_J = np.linalg.solve(system, np.append(-slope_J, 0.0))[:count]
            falls = slope_J @ step_J
            if falls > -_NEAR * barrier:
                break
            for size in 0.5 ** np.arange(50):
                new_J = w_J + size * step_J
                if new_J.min() > 0:
                    slope_J, _ = _slope_and_curve(gramian_JJ, pull_J, radius, barrier, new_J)
                    if slope_J @ step_J <= -falls / 2:
                        break
            w_J = new_J
    return w_J


def _slope_and_curve(
    gramian_JJ: Array, pull_J: Array, radius: float, barrier: float, w_J: Array
) -> tuple[Array, Array]:
    dual_J = gramian_JJ @ w_J
    norm = np.sqrt(w_J @ dual_J + 1e-16)
    slope_J = pull_J + radius * dual_J / norm - barrier / w_J
    curve_JJ = radius * (gramian_JJ / norm - np.outer(dual_J, dual_J) / norm**3)
    return slope_J, curve_JJ + np.diag(barrier / w_J**2)
