"""Nash-MTL: objectives bargain about the direction of the update.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

from torch import Tensor

from models.balancing.aggregated import Aggregated
from models.balancing.fair_grad import fair_weights


class NashMTL(Aggregated):
    """The direction whose product of gains is largest.

    The authors approach the solution by a series of convex problems, warm-started by that of the last batch,
    and solve only at every n-th batch. Newton's method needs less than a millisecond for the few objectives
    of a funnel and comes to the same weights from anywhere, so there is nothing to remember.

    Equation: ``G G^T w = 1 / w``, with G G^T over its Frobenius norm; ``|G^T w|`` at most ``longest``.
    Source: Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, Claim 3.1 and Algorithm 1;
    the norm and the limit as TorchJD has them.
    Use: where losses have different scales: multiplying one by a number does not change the direction.
    Cost: K backward passes, K gradients in memory, and some 10 Newton steps of K unknowns.

    Args:
        num_objectives: not looked at.
        num_shared: not looked at.
        longest: largest norm of the update of what is shared, above 0.

    Raises:
        ValueError: longest is not above 0.
    """

    def __init__(self, num_objectives: int, num_shared: int, *, longest: float = 1.0) -> None:
        del num_objectives, num_shared
        super().__init__()
        if longest <= 0:
            raise ValueError(f"longest must be above 0, got {longest}.")
        self.longest = longest

    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients, shape (J,)."""
        del present_K
        weight_J = fair_weights(gramian_JJ / gramian_JJ.norm(), 1.0)
        norm = (weight_J @ gramian_JJ @ weight_J).sqrt()
        return weight_J * (self.longest / norm).clamp(max=1.0)
