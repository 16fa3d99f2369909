"""ESM2: a conversion is reached through a decisive action or without one.

Shapes: B rows, K objectives in the order of the funnel, H = K heads and those that the declared paths add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from features.funnel import Funnel
from models.entire_space.base import Labels, Term, mean
from models.entire_space.chain import along, step
from models.entire_space.esmm import ESMM
from models.heads import Heads


class ESM2(ESMM):
    """ESMM, with the conversion rate put together from two paths.

    A decisive action, such as putting into the cart, is an objective beside the conversion, given the same
    parent. The conversion's head says the probability of converting after it, an added head that of
    converting without it. Where several actions are named, any of them is decisive, and a further head says
    its probability. Everything is learned over all impressions through joint probabilities, in logarithms.
    With nothing declared it is ESMM.

    Equation: ``pCTAVR = y1 y2``, ``pCTCVR = y1 (y2 y3 + (1 - y2) y4)``,
    ``L = mean_D e(o, y1) + mean_D e(a, pCTAVR) + mean_D e(t, pCTCVR)``.
    Source: Wen et al., Entire Space Multi-Task Modeling via Post-Click Behavior Decomposition for Conversion
    Rate Prediction, SIGIR 2020; the paper's equations could not be read, they are given from a summary.
    Use: where an action on the way to a rare conversion is logged, and is less rare.
    Cost: a head per declared conversion, and one more where several actions are decisive for it.

    Args:
        decisive: by conversion, the action or actions that decide it, all names of objectives.

    Raises:
        ValueError: a conversion without actions, or with one that is named twice.
    """

    # what is shifted for sampled odds is y3 alone, not the rate of the conversion
    chained: ClassVar[bool] = False
    takes_open: ClassVar[bool] = False  # what any of several actions did is no label of its own

    def __init__(self, *, decisive: Mapping[str, str | Sequence[str]] | None = None) -> None:
        self.decisive: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
            (name, (actions,) if isinstance(actions, str) else tuple(actions))
            for name, actions in (decisive or {}).items()
        )
        for name, actions in self.decisive:
            if not actions or len(set(actions)) < len(actions):
                raise ValueError(f"Name each decisive action of {name!r} once, got {actions}.")

    def check(self, funnel: Funnel) -> None:
        """Refuse what is not beside each other, or out of order.

        Raises:
            ValueError: naming the conversion, the action and what the funnel has.
        """
        for name, actions in self.decisive:
            for missing in {name, *actions} - set(funnel.names):
                raise ValueError(f"{missing!r} is no objective; the funnel has {', '.join(funnel.names)}.")
            for action in actions:
                if funnel.names.index(action) >= funnel.names.index(name):
                    raise ValueError(f"Declare {action!r} before {name!r}, which it is to decide.")
                if funnel[action].given != funnel[name].given:
                    raise ValueError(
                        f"{action!r} is given {funnel[action].given!r}, and {name!r}, which it is to decide, "
                        f"is given {funnel[name].given!r}: both must be given the same."
                    )

    def heads(self, funnel: Funnel) -> Heads:
        """One per objective; then for every declared conversion: any of several actions, the other path."""
        added: list[int | None] = []
        for k, actions in self._paths(funnel):
            added += [funnel.parent_index(funnel.objectives[k])] * (1 + (len(actions) > 1))
        return Heads.of(funnel, tuple(added))

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Joint cross-entropy of every objective, and of any of several decisive actions."""
        terms = list(super().terms(logits_BH, labels, funnel))
        reached_BK, missed_BK = self.reach(logits_BH, funnel)
        place = len(funnel)
        for k, actions in self._paths(funnel):
            if len(actions) > 1:
                head_B, parent = logits_BH[:, place], funnel.parent_index(funnel.objectives[k])
                hit_B, miss_B = logsigmoid(head_B), logsigmoid(-head_B)
                if parent is not None:
                    hit_B, miss_B = step(reached_BK[:, parent], missed_BK[:, parent], hit_B, miss_B)
                any_B = labels.known_BK[:, actions].amax(dim=1)
                error_B = -(any_B * hit_B + (1 - any_B) * miss_B)
                loss = mean(error_B, labels.trains_BK[:, actions].all(dim=1), labels.weight_B)
                terms.append(Term(f"{funnel.names[k]}: any decisive action", k, loss))
            place += 1 + (len(actions) > 1)
        return terms

    def reach(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Log-probabilities of reaching each objective from the impression, and of not, both (B, K)."""
        return along(*self.conditional(logits_BH, funnel), funnel)

    def log_probabilities(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Log-probabilities given the parent, and from the impression, both (B, K)."""
        hit_BK, miss_BK = self.conditional(logits_BH, funnel)
        return hit_BK, along(hit_BK, miss_BK, funnel)[0]

    def conditional(self, logits_BH: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
        """Log-probabilities of each objective given its parent, and of its absence, both (B, K)."""
        hit = list(logsigmoid(logits_BH).unbind(dim=1))
        miss = list(logsigmoid(-logits_BH).unbind(dim=1))
        place = len(funnel)
        for k, actions in self._paths(funnel):
            action, other = (actions[0], place) if len(actions) == 1 else (place, place + 1)
            place = other + 1
            # two disjoint paths; rounding may lift their sum above one
            hit[k] = torch.logaddexp(hit[action] + hit[k], miss[action] + hit[other]).clamp(max=0)
            miss[k] = torch.logaddexp(hit[action] + miss[k], miss[action] + miss[other]).clamp(max=0)
        return torch.stack(hit[: len(funnel)], dim=1), torch.stack(miss[: len(funnel)], dim=1)

    def _paths(self, funnel: Funnel) -> list[tuple[int, list[int]]]:
        """Places of the declared conversions and of their actions, in the order of the funnel."""
        place = {name: k for k, name in enumerate(funnel.names)}
        return sorted((place[name], [place[action] for action in actions]) for name, actions in self.decisive)
