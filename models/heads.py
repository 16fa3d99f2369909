"""The logits that a network is asked for: one per objective, then those that a method adds for itself.

Shapes: K objectives, H heads, H >= K.
"""

from __future__ import annotations

from dataclasses import dataclass

from features.funnel import Funnel


@dataclass(frozen=True)
class Heads:
    """Number and order of the logits, and which of them follows which.

    A network that hands knowledge down the funnel (AITM, DBMTL) reads ``parents``; all others only count.

    Attributes:
        parents: for every head the place of the head that it follows, or ``None``; parents come first.
        num_objectives: K; the heads from K on belong to the method alone and are never published.

    Raises:
        ValueError: a head follows one that does not come before it, or there are fewer heads than objectives.
    """

    parents: tuple[int | None, ...]
    num_objectives: int

    def __post_init__(self) -> None:
        if not 1 <= self.num_objectives <= len(self.parents):
            raise ValueError(f"Needs at least one objective and a head for each, got {self}.")
        if bad := [h for h, parent in enumerate(self.parents) if parent is not None and not 0 <= parent < h]:
            raise ValueError(f"Heads {bad} follow a head that does not come before them: {self.parents}.")

    def __len__(self) -> int:
        return len(self.parents)

    @classmethod
    def of(cls, funnel: Funnel, added: tuple[int | None, ...] = ()) -> Heads:
        """One head per objective, then one per entry of ``added``, which names the head that it follows."""
        own = tuple(funnel.parent_index(objective) for objective in funnel)
        return cls((*own, *added), len(funnel))

    @classmethod
    def free(cls, count: int) -> Heads:
        """Objectives that follow nothing but the impression."""
        return cls((None,) * count, count)
