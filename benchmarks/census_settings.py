"""Sizes and training of our networks on Census-Income: what is tried on validation rows, and what was chosen.

``python benchmarks/census.py --split A --tune`` prints the trials (``tune`` there). Every network has as
many (PLE and single-task, which are held against each other, twelve more on A): two step sizes, each
as all have it and in ways more that who uses such a network would try. Networks of several objectives try
smaller weights of the easy one, never married, which otherwise shapes half of what is shared. One network for
each objective has nothing to weigh, but no peer either whose width it must have: it tries twice the width,
and with that more decay. On A, which has thrice the rows, there are larger sizes, too: wider was better for
whatever was tried, so what is held against each other has a size that none may pass (how it came to be set
is in ``RESULTS.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Widths:
    """Sizes that all sides have in common, those of the single-task network apart.

    Those of torch-rechub's example for this data (experts of 16, towers of 8) are too narrow: its own
    networks have 0.01 less AUC of income on validation rows.
    """

    bottom: tuple[int, ...] = (128,)
    experts: int = 4
    expert: tuple[int, ...] = (64,)
    tower: tuple[int, ...] = (32,)
    levels: int = 1
    own: int = 2
    shared: int = 1
    network: tuple[int, ...] = (64, 32)


@dataclass(frozen=True)
class Setting:
    """How one network is built and trained.

    Attributes:
        rate: step size of network and embeddings.
        second: weight of the loss of the second objective, never married; that of the first is 1.
        sizes: arguments of the network instead of those by the common widths.
        decay: decay of the network's weights.
        dim: numbers of an embedding; single-task networks have a table for each objective.
    """

    rate: float
    second: float = 1.0
    sizes: Mapping[str, Any] = field(default_factory=dict)
    decay: float = 0.1
    dim: int = 4


#: Twice the width of a single-task network.
WIDE = {"layers": (256, 64)}
#: Share of the old average of the weights that a step keeps.
AVERAGING = 0.995
#: Step sizes by split: B has a third of the steps.
RATES = {"A": (4e-3, 8e-3), "B": (8e-3, 1.6e-2)}
#: Weights that the networks of a line may have in all, those of the embeddings apart.
MOST_WEIGHTS = 1 << 19
#: Sizes that are tried besides on A. Wider was better for both of those that are held against each other,
#: PLE and single-task, so these two try more: the widest of either have 0.45 and 0.52 million weights.
LARGER: dict[str, tuple[Mapping[str, Any], ...]] = {
    "SingleTask": tuple(
        {"layers": layers}
        for layers in (
            *((512, 128), (256, 128, 64), (512, 256, 64)),
            *((256, 256), (512, 256), (768, 128), (1024, 128), (640, 256)),
        )
    ),
    "SharedBottom": ({"bottom": (256,)}, {"bottom": (256, 128)}),
    "MMoE": ({"expert": (128,)}, {"experts": 8}),
    "PLE": (
        *({"levels": levels} for levels in (((128,),), ((64,), (64,)), ((256,),), ((128,), (128,)))),
        *({"levels": s, "layers": (128,)} for s in (((256,),), ((128,), (128,)), ((512,),))),
        {"levels": ((512,),), "layers": (128,), "expert_dropout": 0.3},
    ),
    "AITM": ({"layers": (128, 64)}, {"layers": (128, 64, 32)}),
}
#: Trainings of every trial, each with a seed that is not reported; on B each with other validation rows, of
#: which there are few.
TUNING_RUNS = {"A": 2, "B": 3}


def trials(split: str, network: str) -> list[Setting]:
    """What is tried."""
    found = []
    for rate in RATES[split]:
        found.append(Setting(rate))
        if network == "SingleTask":
            found += [Setting(rate, sizes=WIDE), Setting(rate, sizes=WIDE, decay=0.3)]
        else:
            found += [Setting(rate, second=0.3), Setting(rate, second=0.1)]
        if split == "A":
            found += [Setting(rate, sizes=sizes) for sizes in LARGER[network]]
    return found


#: By split and first objective, for every part that decides, the trial with the best mean of the two AUCs.
CHOSEN: dict[tuple[str, str], dict[str, tuple[Setting, ...]]] = {
    ("A", "income"): {
        "SingleTask": (
            Setting(4e-3, sizes={"layers": (512, 256)}),
            Setting(4e-3, sizes={"layers": (512, 256, 64)}),
        ),
        "SharedBottom": (
            Setting(4e-3, sizes={"bottom": (256, 128)}),
            Setting(8e-3, sizes={"bottom": (256,)}),
        ),
        "MMoE": (Setting(8e-3, sizes={"expert": (128,)}),) * 2,
        "PLE": (
            Setting(8e-3, sizes={"levels": ((256,),), "layers": (128,)}),
            Setting(4e-3, sizes={"levels": ((512,),), "layers": (128,)}),
        ),
        "AITM": (Setting(8e-3, sizes={"layers": (128, 64)}),) * 2,
    },
    ("A", "education"): {
        "SingleTask": (
            Setting(4e-3, sizes={"layers": (640, 256)}),
            Setting(4e-3, sizes={"layers": (512, 256)}),
        ),
        "SharedBottom": (
            Setting(8e-3, sizes={"bottom": (256,)}),
            Setting(8e-3, sizes={"bottom": (256, 128)}),
        ),
        "MMoE": (Setting(8e-3, second=0.3),) * 2,
        "PLE": (Setting(4e-3, sizes={"levels": ((512,),), "layers": (128,)}),) * 2,
        "AITM": (
            Setting(4e-3, sizes={"layers": (128, 64)}),
            Setting(4e-3, sizes={"layers": (128, 64, 32)}),
        ),
    },
    ("B", "income"): {
        "SingleTask": (Setting(1.6e-2),),
        "SharedBottom": (Setting(1.6e-2, second=0.3),),
        "MMoE": (Setting(1.6e-2, second=0.3),),
        "PLE": (Setting(1.6e-2, second=0.1),),
        "AITM": (Setting(1.6e-2, second=0.3),),
    },
    ("B", "education"): {
        "SingleTask": (Setting(1.6e-2, sizes=WIDE),),
        "SharedBottom": (Setting(1.6e-2, second=0.3),),
        "MMoE": (Setting(8e-3, second=0.1),),
        "PLE": (Setting(1.6e-2, second=0.3),),
        "AITM": (Setting(8e-3, second=0.3),),
    },
}
#: By first objective, what is held against each other on C (``census_anew.py``), fixed before it was run: the
#: best of a few on thirds of the official training split, learned on the other two. The tables of single-task
#: networks have as many numbers in all as one of twice the ``dim``.
FIXED: dict[str, dict[str, Setting]] = {
    "income": {
        "SingleTask": Setting(4e-3, sizes={"layers": (2048, 256)}),
        "PLE": Setting(4e-3, sizes={"levels": ((512,),), "layers": (128,), "expert_dropout": 0.3}),
    },
    "education": {
        "SingleTask": Setting(4e-3, sizes={"layers": (1024, 256)}, dim=8),
        "PLE": Setting(
            4e-3, sizes={"levels": ((512,),), "own": 1, "layers": (256,), "expert_dropout": 0.3}, dim=16
        ),
    },
}
