"""FairGrad: the update that is fair to all objectives, by a degree that is a setting.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.balancing.aggregated import Aggregated

_REGULARIZATION = 1e-12
"""Share of its diagonal that is added to a Gramian: where some weighted sum of the gradients is 0, weights
would grow without end."""

_MOST_STEPS = 200
_RESIDUAL = 1e-11
"""Relative error of the equation at which the solver stops."""


class FairGrad(Aggregated):
    """Weights that make what every objective gains a power of its weight.

    ``alpha`` 0 is the plain mean, 1 is ``NashMTL`` but for the length of the update, and the larger it is,
    the more counts the objective that gains least.

    Equation: ``G G^T w = w^(-1 / alpha)``, element by element.
    Source: Ban, Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024, equation 4, as TorchJD reads
    it. It is the optimum of a convex problem, which Newton's method solves here; the authors and TorchJD hand
    the equation to a solver for least squares.
    Use: where objectives should gain alike.
    Cost: K backward passes, K gradients in memory, and some 10 Newton steps of K unknowns.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        alpha: degree of fairness, not negative.

    Raises:
        ValueError: alpha is negative.
    """

    def __init__(self, num_objectives: int, num_shared: int, *, alpha: float = 2.0) -> None:
        del num_objectives, num_shared
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha must not be negative, got {alpha}.")
        self.alpha = alpha

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        return fair_weights(gramian_JJ, self.alpha)


def fair_weights(gramian_JJ: Tensor, alpha: float) -> Tensor:
    """Solve ``G w = w^(-1 / alpha)``, shape (J,).

    It is where the convex ``w . G w / 2 - sum_k integral of w_k^(-1 / alpha)`` is least. A step of Newton's
    method is halved until weights stay above 0 and the slope along it does not climb far beyond 0.

    Args:
        gramian_JJ: inner products of the gradients, float64; its diagonal is above 0.
        alpha: degree of fairness, not negative; 0 gives ``1 / J``.
    """
    count = len(gramian_JJ)
    if alpha == 0:
        return torch.full_like(gramian_JJ[0], 1 / count)
    power, trace = 1 / alpha, float(gramian_JJ.trace())
    # plain arrays: for so few numbers torch would only wait for itself
    regular_JJ = gramian_JJ.numpy() / trace * (1 + _REGULARIZATION * np.eye(count))
    w_J = regular_JJ.diagonal() ** (-1 / (1 + power))  # what each would weigh alone
    slope_J = regular_JJ @ w_J - w_J**-power
    for _ in range(_MOST_STEPS):
        if np.abs(slope_J * w_J**power).max() < _RESIDUAL:
            break
        curve_JJ = regular_JJ + np.diag(power * w_J ** (-power - 1))
        step_J = -np.linalg.solve(curve_JJ, slope_J)
        falls = slope_J @ step_J
        for size in 0.5 ** np.arange(50):
            new_J = w_J + size * step_J
            if new_J.min() > 0:
                new_slope_J = regular_JJ @ new_J - new_J**-power
                if new_slope_J @ step_J <= -falls / 2:
                    break
        w_J, slope_J = new_J, new_slope_J
    return torch.from_numpy(w_J * trace ** (-1 / (1 + power)))
