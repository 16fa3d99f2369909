"""The one contract of every balancer: K losses to one update.

Shapes: K objectives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Balancer(nn.Module, ABC):
    """Turns the losses of the objectives into gradients.

    A balancer that only weighs losses implements ``forward``; one that edits gradients overrides
    ``backward``. The training loop calls ``backward`` and knows no balancer by name. Whatever a balancer
    learns or remembers is a parameter or a buffer, so that it travels with the checkpoint. It is
    constructed as ``cls(num_objectives, *, <flat settings>)``.
    """

    @abstractmethod
    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""

    def backward(self, losses_K: Tensor, shared: Sequence[Tensor]) -> Tensor:
        """Fill ``.grad`` of every leaf that the losses reach.

        Args:
            losses_K: losses with their graph; exactly 0 where an objective had no row.
            shared: leaves that several objectives reach: shared parameters, and the embedding vectors of
                the batch. They are where gradients of objectives may be compared and edited.

        Returns:
            The combined loss, without its graph, to be logged.
        """
        total = self(losses_K)
        total.backward()
        return total.detach()  # type: ignore[no-any-return]
