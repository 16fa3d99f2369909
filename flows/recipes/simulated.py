"""Model lines of the scenario ``simulated``."""

from __future__ import annotations

from functools import partial

from flows.recipes import Recipe
from models.balancing.static import Static
from models.entire_space.esmm import ESMM
from models.ple import PLE
from models.towers import Towers


def esmm() -> Recipe:
    """A tower per objective over shared embeddings; conversion learned as the joint over all impressions."""
    return Recipe(
        name="esmm",
        description="ESMM: towers over shared embeddings, losses over the entire space.",
        architecture=partial(Towers, layers=(64, 32)),
        method=ESMM(),
        balancer=Static,
        dim=8,
        batch_rows=256,
    )


def ple() -> Recipe:
    """Two extraction levels under a tower per objective; losses over the entire space."""
    return Recipe(
        name="ple",
        description="PLE with two levels, losses over the entire space.",
        architecture=partial(PLE, levels=((32,), (32,)), own=1, shared=1, layers=(16,)),
        method=ESMM(),
        balancer=Static,
        dim=8,
        batch_rows=256,
    )
