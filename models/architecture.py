"""The one contract of every network: an encoded row in, one logit per head out.

Shapes: B rows, H heads (the objectives first), S embedding spaces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from models.heads import Heads
from models.inputs import Inputs


class Architecture(nn.Module, ABC):
    """Network between the embeddings and the logits.

    A subclass is constructed as ``cls(entry, heads, *, <flat settings>, generator)`` from an ``Entry`` and
    ``Heads``, and every initial weight is drawn from ``generator``. It knows neither the names of the
    objectives nor what the method makes of its logits. Its docstring has the lines ``Equation:``,
    ``Source:``, ``Use:`` and ``Cost:``, from which ``docs/models.md`` is made.
    """

    @staticmethod
    def spaces(heads: Heads) -> int:
        """Embedding spaces that it reads, S: vectors that every id has, each of the recipe's ``dim``."""
        del heads
        return 1

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one head's logit reaches; embeddings are not among them."""

    def last_shared(self) -> nn.Parameter | None:
        """Weight of the last layer that all objectives read, where GradNorm compares their gradients.

        ``None`` where they share the embeddings alone: the vectors of the batch stand for it then.
        """
        return None
