"""What all balancers have in common that weigh gradients by their inner products.

Shapes: K objectives, J of them with a gradient in the batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

import torch
from torch import Tensor

from models.balancing.base import Balancer, Leaves, by_objective, weighted_sum


class Aggregated(Balancer):
    """One direction from K gradients, as a weighted sum of them; a subclass says the weights.

    Gradients are compared at the shared parameters and the vectors of the batch together, as one long
    vector; what they are needed for is their Gramian, K by K. Own parameters get the plain sum: an element
    of them serves one objective. An objective without a row in the batch (loss exactly 0), or without a
    gradient at what is shared, is not asked: a zero gradient would be the minimum of most of these problems.
    With one objective there is nothing to weigh, and its gradient stays as it is.

    Memory is that of K gradients at the shared parameters and at the vectors of the batch.
    """

    compares: ClassVar[bool] = True

    def forward(self, losses_K: Tensor) -> Tensor:
        """The plain sum of the losses, shape (K,): it is logged, and own parameters follow it."""
        return losses_K.sum()

    @abstractmethod
    def weights(self, gramian_JJ: Tensor, present_K: Tensor) -> Tensor:
        """Weights of the gradients.

        Args:
            gramian_JJ: inner products of the gradients, float64, of the objectives that have one; its
                diagonal is above 0.
            present_K: which objectives these are, boolean.

        Returns:
            Shape (J,), float64.
        """

    def on(self, device: torch.device) -> Self:
        """Itself, left on the processor: K by K numbers, in float64, are solved there on any device."""
        return self

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf."""
        found = by_objective(losses_K, leaves)
        with torch.no_grad():
            weight_K = self._weights(_gramian(found), (losses_K.detach() != 0).cpu())
            for leaf, grads_K in zip((*leaves.shared, leaves.vectors), zip(*found, strict=True), strict=True):
                leaf.grad = weighted_sum(grads_K, weight_K)
        return self(losses_K.detach())  # type: ignore[no-any-return]

    def _weights(self, gramian_KK: Tensor, with_rows_K: Tensor) -> list[float]:
        present_K = with_rows_K & (gramian_KK.diagonal() > 0)
        # what is not finite goes on as it is: the line refuses it, and names where it was
        if len(gramian_KK) == 1 or not present_K.any() or not torch.isfinite(gramian_KK).all():
            return [1.0] * len(gramian_KK)
        weight_K = torch.zeros_like(gramian_KK[0])
        weight_K[present_K] = self.weights(gramian_KK[present_K][:, present_K], present_K)
        return weight_K.tolist()


@contextmanager
def seeded(seed: int, step: Tensor) -> Iterator[None]:
    """Random numbers of torch that follow from the seed and the step, which then counts one more.

    The stream that others draw from is left where it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed((seed << 40) + int(step))
        yield
    step += 1


def _gramian(found: list[list[Tensor]]) -> Tensor:
    """Inner products of K gradients, each in parts.

    In float64: gradients differ by orders of magnitude and may be parallel, and no eigenvalue may
    come out below 0.
    """
    gramian_KK = torch.zeros(len(found), len(found), dtype=torch.float64, device="cpu")
    for grads_K in zip(*found, strict=True):
        rows_KN = torch.stack([grad.flatten() for grad in grads_K]).double()
        gramian_KK += (rows_KN @ rows_KN.T).cpu()
    return gramian_KK
