"""Customized Gate Control: experts of each objective and shared ones, one level of them.

Shapes: K heads.
"""

from __future__ import annotations

import torch

from models.heads import Heads
from models.inputs import Entry
from models.ple import PLE


class CGC(PLE):
    """PLE with one level: a gate per head over its own experts and the shared ones, then a tower.

    Equation: ``g_k = softmax(W_k x) [own_k; shared]``, ``logit_k = tower_k(g_k)``.
    Source: Tang et al., Progressive Layered Extraction, RecSys 2020, section 4.1, equations 2-5.
    Use: as PLE, where a second level is not worth its cost, as with few objectives.
    Cost: K own + shared experts, K gates of one linear layer.

    Args:
        entry: layout of the input.
        heads: the logits.
        expert: widths of an expert.
        own: experts of each objective.
        shared: experts that every gate selects.
        layers: hidden widths of a tower.
        expert_dropout: probability that a gate passes over an expert in a row that it learns, see ``Gate``.
        generator: source of the initial weights.

    Raises:
        ValueError: no own or no shared expert.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        expert: tuple[int, ...] = (256, 128),
        own: int = 1,
        shared: int = 1,
        layers: tuple[int, ...] = (64,),
        expert_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            entry,
            heads,
            levels=(expert,),
            own=own,
            shared=shared,
            layers=layers,
            expert_dropout=expert_dropout,
            generator=generator,
        )
