"""The rows of ``entire_space.py``: the seven of ESMM's table 2, then the debiased methods.

A row is an architecture, a method, what is done to the rows that it learns, and a step size. All networks are
equally wide and deep; those of the paper's baselines have embeddings of their own, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from known_propensity import KnownPropensity

from features.sampling.aman import AMAN
from features.sampling.base import Sampling
from features.sampling.everything import Everything
from features.sampling.oversampling import Oversampling
from features.sampling.unbias import Unbias
from models.architecture import Architecture
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
from models.single_task import SingleTask
from models.towers import Towers

CLICK, CONVERSION = "click", "conversion"
LAYERS, DIM = (32, 16), 8
#: Least propensity to divide by, of every method that divides.
FLOOR = 0.005
#: Step sizes that ``--tune`` tries.
RATES = (3e-3, 9e-3)
_EVERYTHING = Everything()
_OWN, _SHARED = partial(SingleTask, layers=LAYERS), partial(Towers, layers=LAYERS)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one row of the table learns with.

    Attributes:
        architecture: networks of click and conversion; embeddings of their own unless it says otherwise.
        method: how probabilities are formed and learned.
        sampling: which rows train what.
        known: the method is told the true pCTR, which no log has, as the weight of a row.
        rate: step size of network and embeddings.
    """

    architecture: Callable[..., Architecture] = _OWN
    method: EntireSpace
    sampling: Sampling = _EVERYTHING
    known: bool = False
    rate: float = 3e-3


_SHARING = partial(Row, architecture=_SHARED)

#: What the table shows. The last row is Multi-IPW with the propensities that no log has.
ROWS: Mapping[str, Row] = {
    "BASE": Row(method=Masked()),
    "AMAN": Row(method=Masked(), sampling=AMAN(objective=CONVERSION, rate=0.1)),
    "OVERSAMPLING": Row(method=Masked(), sampling=Oversampling(objective=CONVERSION, factor=2)),
    "UNBIAS": Row(method=Masked(), sampling=Unbias(objective=CONVERSION, floor=0.3)),
    "DIVISION": Row(method=Division()),
    "ESMM-NS": Row(method=ESMM()),
    "ESMM": _SHARING(method=ESMM(), rate=9e-3),
    "Multi-IPW": _SHARING(method=MultiIPW(floor=FLOOR)),
    "Multi-DR": _SHARING(method=MultiDR(floor=FLOOR), rate=9e-3),
    "ESCM2-IPS": _SHARING(method=ESCM2IPS(floor=FLOOR)),
    "ESCM2-DR": _SHARING(method=ESCM2DR(floor=FLOOR)),
    "DCMT": _SHARING(method=DCMT(floor=FLOOR)),
    "NISE": _SHARING(method=NISE()),
    "true propensity": _SHARING(method=KnownPropensity(floor=FLOOR), known=True),
}

#: Further settings that ``--tune`` tries, after the papers that tried them.
TRIED: Mapping[str, Sequence[Row]] = {
    "AMAN": [Row(method=Masked(), sampling=AMAN(objective=CONVERSION, rate=0.5))],
    "OVERSAMPLING": [Row(method=Masked(), sampling=Oversampling(objective=CONVERSION, factor=5))],
    "UNBIAS": [Row(method=Masked(), sampling=Unbias(objective=CONVERSION, floor=0.1))],
}
