"""The one contract of every network: an encoded row in, one conditional logit per objective out.

Shapes: B rows, D input width, K objectives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Architecture(nn.Module, ABC):
    """Network between the embeddings and the logits.

    A subclass is constructed as ``cls(width, num_objectives, *, <flat settings>, generator)``: ``width``
    is D, ``num_objectives`` is K, and every initial weight is drawn from ``generator``. It knows neither
    the names of the objectives nor their order in the funnel.
    """

    @abstractmethod
    def forward(self, x_BD: Tensor) -> Tensor:
        """Logits of each objective given its parent, shape (B, K)."""

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one objective's logit reaches; embeddings are not among them."""
