"""UPGrad: every gradient is projected to where no objective gets worse, then they are averaged.

Shapes: K objectives, J of them with a gradient in the batch, U vectors to project.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchjd.aggregation import UPGradWeighting
from torchjd.linalg import DualConeProjector, PSDMatrix

from models.balancing.aggregated import Aggregated

Array = NDArray[np.float64]


class UPGrad(Aggregated):
    """The mean of the gradients, each moved as little as it takes to point against no gradient.

    Equation: ``g = 1 / K sum_k p(g_k)``, ``p`` the projection on ``{x: x . g_j >= 0 for all j}``.
    Source: Quinton, Rey, Jacobian Descent for Multi-Objective Optimization, 2024, equation 3 and
    Proposition 1; by TorchJD, with a solver of ours for its quadratic programs.
    Use: where no objective may pay for another, and small gradients are small for a reason.
    Cost: K backward passes, K gradients in memory, and K quadratic programs of K unknowns.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        regularization: added to the diagonal of the Gramian of trace 1, above 0; parallel gradients have no
            single solution without it. An objective whose squared norm is of this size among the others is
            not protected: TorchJD's 1e-4 gives up gradients of a hundredth of the others.

    Raises:
        ValueError: regularization is not above 0.
    """

    def __init__(self, num_objectives: int, num_shared: int, *, regularization: float = 1e-12) -> None:
        del num_objectives, num_shared
        super().__init__()
        if regularization <= 0:
            raise ValueError(f"regularization must be above 0, got {regularization}.")
        self.weighting = UPGradWeighting(projector=PivotingProjector(regularization))

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        return self.weighting(gramian_JJ)


class PivotingProjector(DualConeProjector):
    """Solves ``min v^T G v`` with ``v >= u`` exactly, for a few objectives.

    TorchJD's own projector wants quadprog and qpsolvers, which are under the GPL and the LGPL. Murty's
    least-index pivoting (Note on a Bard-type scheme for solving the complementarity problem, Opsearch 11,
    1974) ends for every positive definite matrix.
    """

    def __init__(self, regularization: float) -> None:
        self.regularization = regularization

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:
        """Weights of the projections of vectors with weights ``U``, shape (U, J), of the same shape."""
        gramian_JJ = (G / G.trace()).numpy() + self.regularization * np.eye(len(G))
        return torch.from_numpy(np.stack([_projected(u_J, gramian_JJ) for u_J in U.numpy()]))


def _projected(u_J: Array, gramian_JJ: Array) -> Array:
    """With ``z = v - u``: z >= 0, ``G v >= 0``, and for every objective one of both is 0."""
    norm_J = np.sqrt(gramian_JJ.diagonal())
    free_J = np.zeros(len(u_J), dtype=np.bool_)
    # no more sets than these can be free; only rounding would come to an end here
    for _ in range(2 ** len(u_J)):
        v_J = u_J.copy()
        if free_J.any():
            pull_J = gramian_JJ[free_J][:, ~free_J] @ u_J[~free_J]
            v_J[free_J] = -np.linalg.solve(gramian_JJ[free_J][:, free_J], pull_J)
        # cut far above rounding, which could turn an index back and forth
        wrong_J = np.where(free_J, (v_J - u_J) * norm_J, gramian_JJ @ v_J / norm_J) < -1e-10
        if not wrong_J.any():
            break
        first = wrong_J.argmax()
        free_J[first] = ~free_J[first]
    return v_J
