"""The lines of ``kuairand.py``: one choice at a time is exchanged, everything else stays.

Widths are near those of the shipped recipes, not tuned line by line: what differs between two lines is then
the structure. Weights of the losses are those of the shipped lines wherever a balancer has weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from flows.recipes import Recipe
from flows.recipes.kuairand import WEIGHTS
from models.adatt import AdaTT
from models.aitm import AITM
from models.architecture import Architecture
from models.asymmetric import Asymmetric
from models.balancing.ada_task import AdaTask
from models.balancing.aligned_mtl import AlignedMTL
from models.balancing.base import Balancer
from models.balancing.ca_grad import CAGrad
from models.balancing.dwa import DWA
from models.balancing.fair_grad import FairGrad
from models.balancing.famo import FAMO
from models.balancing.geometric import Geometric
from models.balancing.grad_norm import GradNorm
from models.balancing.grad_vac import GradVac
from models.balancing.imtl_g import IMTLG
from models.balancing.imtl_l import IMTLL
from models.balancing.meta_balance import MetaBalance
from models.balancing.mgda import MGDA
from models.balancing.nash_mtl import NashMTL
from models.balancing.pcgrad import PCGrad
from models.balancing.static import Static
from models.balancing.uncertainty import Uncertainty
from models.balancing.up_grad import UPGrad
from models.cgc import CGC
from models.cross_stitch import CrossStitch
from models.customized import Customized
from models.dbmtl import DBMTL
from models.entire_space.base import EntireSpace
from models.entire_space.dcmt import DCMT
from models.entire_space.division import Division
from models.entire_space.escm2_dr import ESCM2DR
from models.entire_space.escm2_ips import ESCM2IPS
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.entire_space.multi_dr import MultiDR
from models.entire_space.multi_ipw import MultiIPW
from models.entire_space.nise import NISE
from models.entire_space.ordered import Ordered
from models.home import HoME
from models.interaction.base import Interaction
from models.interaction.concatenate import Concatenate
from models.interaction.cross import Cross
from models.interaction.factorization import Factorization
from models.ml_mmoe import MLMMoE
from models.mmoe import MMoE
from models.pepnet import PEPNet
from models.ple import PLE
from models.shared_bottom import SharedBottom
from models.single_task import SingleTask
from models.stem import STEM
from models.towers import Towers

_BOTTOM, _EXPERT, _LEVELS, _TOWER = (128, 64), (64, 64), ((64,), (64,)), (32,)
_TOWERS = partial(Towers, layers=_BOTTOM)
_WEIGHED = partial(Static, weights=WEIGHTS)

#: Under ESMM. ``single_task`` is ESMM without shared embeddings, which its paper calls ESMM-NS.
ARCHITECTURES: Mapping[str, Callable[..., Architecture]] = {
    "towers": _TOWERS,
    "single_task": partial(SingleTask, layers=_BOTTOM),
    "shared_bottom": partial(SharedBottom, bottom=_BOTTOM, layers=_TOWER),
    "asymmetric": partial(Asymmetric, bottom=_BOTTOM, layers=_TOWER),
    "customized": partial(Customized, own=_BOTTOM, shared=_BOTTOM, layers=_TOWER),
    "cross_stitch": partial(CrossStitch, stitched=_BOTTOM, layers=_TOWER),
    "omoe": partial(MMoE, experts=4, expert=_EXPERT, layers=_TOWER, one_gate=True),
    "mmoe": partial(MMoE, experts=4, expert=_EXPERT, layers=_TOWER),
    "ml_mmoe": partial(MLMMoE, levels=_LEVELS, experts=4, layers=_TOWER),
    "cgc": partial(CGC, expert=_EXPERT, own=2, shared=2, layers=_TOWER),
    "ple": partial(PLE, levels=_LEVELS, own=2, shared=2, layers=_TOWER),
    "aitm": partial(AITM, layers=(*_BOTTOM, 32)),
    "stem": partial(STEM, own=1, shared=1, expert=_EXPERT, layers=_TOWER),
    "adatt": partial(AdaTT, levels=_LEVELS, own=2, shared=1, layers=_TOWER),
    "home": partial(HoME, groups=((0, 1), (2,)), meta=(64,), expert=(64,), layers=_TOWER),
    "pepnet": partial(PEPNet, domain=("tab",), priors=("user_id", "item_id"), layers=_BOTTOM, gate=32),
    "dbmtl": partial(DBMTL, bottom=_BOTTOM, layers=_TOWER, link=(16,)),
}

#: Over towers. ESM2 needs two objectives that are given the same one, which this funnel has not.
METHODS: Mapping[str, EntireSpace] = {
    "towers": ESMM(),
    "masked": Masked(),
    "division": Division(),
    "ordered": Ordered(),
    "multi_ipw": MultiIPW(),
    "multi_dr": MultiDR(),
    "escm2_ips": ESCM2IPS(),
    "escm2_dr": ESCM2DR(),
    "dcmt": DCMT(),
    "nise": NISE(),
}

#: Towers and ESMM over what is done to the vectors first.
INTERACTIONS: Mapping[str, Callable[..., Interaction]] = {
    "towers": Concatenate,
    "factorization": Factorization,
    "cross": Cross,
}

#: Over a shared bottom and ESMM, since most of them look at shared layers; ``equal`` is the plain sum.
BALANCERS: Mapping[str, Callable[..., Balancer]] = {
    "shared_bottom": _WEIGHED,
    "equal": Static,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "imtl_l": IMTLL,
    "geometric": Geometric,
    "famo": FAMO,
    "grad_norm": GradNorm,
    "pcgrad": PCGrad,
    "grad_vac": GradVac,
    "ca_grad": CAGrad,
    "mgda": MGDA,
    "imtl_g": IMTLG,
    "nash_mtl": NashMTL,
    "fair_grad": FairGrad,
    "up_grad": UPGrad,
    "aligned_mtl": AlignedMTL,
    "meta_balance": MetaBalance,
    "ada_task": AdaTask,
}


def _line(
    name: str,
    *,
    architecture: Callable[..., Architecture] = _TOWERS,
    method: EntireSpace | None = None,
    interaction: Callable[..., Interaction] = Concatenate,
    balancer: Callable[..., Balancer] = _WEIGHED,
) -> Recipe:
    return Recipe(
        name=name,
        description=f"{name}, in the comparison of the family",
        architecture=architecture,
        method=method or ESMM(),
        interaction=interaction,
        balancer=balancer,
    )


#: By family; the first line of each is the one that its others are compared with.
FAMILIES: Mapping[str, tuple[Recipe, ...]] = {
    "architectures": tuple(_line(n, architecture=choice) for n, choice in ARCHITECTURES.items()),
    "methods": (
        *(_line(n, method=choice) for n, choice in METHODS.items()),
        _line("aitm_ordered", architecture=ARCHITECTURES["aitm"], method=Ordered()),
    ),
    "interactions": tuple(_line(n, interaction=choice) for n, choice in INTERACTIONS.items()),
    "balancers": tuple(
        _line(n, architecture=ARCHITECTURES["shared_bottom"], balancer=choice)
        for n, choice in BALANCERS.items()
    ),
}
