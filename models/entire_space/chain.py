"""The chain rule of the funnel: conditional logits to log-probabilities per impression.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from features.funnel import Funnel


def log_reach(logits_BK: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
    """Log-probabilities that an impression reaches each objective, and that it does not.

    Reaching adds log-sigmoids along the path. Not reaching is the sum of disjoint ways to drop out: at
    the parent or before, or at the objective itself. Both tails keep their precision and a gradient.

    Source: ESMM's ``pCTCVR = pCTR * pCVR`` (SIGIR 2018, equation 1), along a tree and in logarithms.

    Args:
        logits_BK: logit of each objective given its parent.
        funnel: the tree; parents come before their children.

    Returns:
        ``(reached_BK, missed_BK)``; ``exp(reached) + exp(missed)`` is one.
    """
    return along(logsigmoid(logits_BK), logsigmoid(-logits_BK), funnel)


def along(hit_BK: Tensor, miss_BK: Tensor, funnel: Funnel) -> tuple[Tensor, Tensor]:
    """Log-probabilities of reaching each objective and of not reaching it, from those of every step.

    Args:
        hit_BK: log-probability of each objective given its parent.
        miss_BK: log-probability of its absence given its parent.
        funnel: the tree; parents come before their children.

    Returns:
        ``(reached_BK, missed_BK)``; reaching an objective is never likelier than reaching its parent.
    """
    reached: list[Tensor] = []
    missed: list[Tensor] = []
    for objective, hit_B, miss_B in zip(funnel, hit_BK.unbind(dim=1), miss_BK.unbind(dim=1), strict=True):
        parent = funnel.parent_index(objective)
        if parent is None:
            reached.append(hit_B)
            missed.append(miss_B)
        else:
            reached_B, missed_B = step(reached[parent], missed[parent], hit_B, miss_B)
            reached.append(reached_B)
            missed.append(missed_B)
    return torch.stack(reached, dim=1), torch.stack(missed, dim=1)


def step(reached_B: Tensor, missed_B: Tensor, hit_B: Tensor, miss_B: Tensor) -> tuple[Tensor, Tensor]:
    """One step down the funnel, in logarithms.

    Args:
        reached_B: reaching the parent.
        missed_B: not reaching it.
        hit_B: the objective given its parent.
        miss_B: not the objective given its parent.

    Returns:
        Reaching the objective, and not reaching it.
    """
    return reached_B + hit_B, torch.logaddexp(missed_B, reached_B + miss_B)
