"""The one contract of every feature interaction: vectors of the fields in, the network's flat input out.

Shapes: B rows, F fields, D numbers per vector, S embedding spaces, X columns of the flat input, H heads,
Q quantities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from models.inputs import Entry


class Interaction(nn.Module, ABC):
    """What is done to the vectors before any network reads them; any architecture runs on any of them.

    A subclass is constructed as ``cls(entry, num_heads, *, <flat settings>, generator)``, where ``entry``
    lays out plain concatenation, and sets ``width``.

    Attributes:
        width: X, columns that the architecture will read.
        only_products: all that becomes of the vectors is multiplied by a network, so that they may as well
            be rounded when they are fetched.
    """

    only_products: ClassVar[bool] = False
    width: int

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.width = entry.width

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one head's logit reaches: all, where every network reads the result."""
        return list(self.parameters())

    @abstractmethod
    def forward(self, vectors_SBFD: Tensor, dense_BQ: Tensor) -> tuple[Tensor, Tensor | None]:
        """The flat input, shape (S, B, X), and a term of every logit, shape (B, H), if it adds one."""
