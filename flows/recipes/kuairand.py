"""Model lines of the scenario ``kuairand``."""

from __future__ import annotations

from functools import partial

from flows.recipes import Recipe
from models.balancing.static import Static
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.ple import PLE
from models.shared_bottom import SharedBottom
from models.towers import Towers

#: Of click, long view and like. Likes are rare, and with equal weights their noise costs the shared
#: embeddings 0.0005 of the click's AUC (mean of the last five days, two seeds).
WEIGHTS = (1.0, 0.3, 0.05)


def esmm() -> Recipe:
    """A tower per objective over shared embeddings; conversion learned as the joint over all impressions."""
    return Recipe(
        name="esmm",
        description="ESMM: towers over shared embeddings, losses over the entire space.",
        architecture=partial(Towers, layers=(128, 64)),
        method=ESMM(),
        balancer=partial(Static, weights=WEIGHTS),
    )


def ple() -> Recipe:
    """Two extraction levels under a tower per objective; losses over the entire space."""
    return Recipe(
        name="ple",
        description="PLE with two levels, losses over the entire space.",
        architecture=partial(PLE, levels=((64,), (64,)), own=2, shared=2, layers=(32,)),
        method=ESMM(),
        balancer=partial(Static, weights=WEIGHTS),
    )


def shared_bottom() -> Recipe:
    """One bottom for all objectives; each learned in its own space, conversion on clicked rows."""
    return Recipe(
        name="shared_bottom",
        description="Shared bottom, each objective learned in its own space.",
        architecture=partial(SharedBottom, bottom=(128, 64), layers=(32,)),
        method=Masked(),
        balancer=Static,
    )
