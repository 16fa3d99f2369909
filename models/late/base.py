"""The one contract of every policy for late conversions: which readings of a label train, and at what cost.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

#: When a line reads the label of an impression; every label but that of a late objective is read ``final``.
#: ``final``: once, when it can no longer change. ``early``: once, as it is known as soon as the label of its
#: parent is final. ``turned``: again, when it became positive after that. ``ripe``: again, when it is final.
#: ``nightly``: in every run while it is open, and for the last time when it is final.
When = Literal["final", "early", "turned", "ripe", "nightly"]


@dataclass(frozen=True, eq=False)
class Reading:
    """How far the labels of a batch could be known when they were read.

    Attributes:
        open_BK: the label could still change when it was first read, bool. The policy decides there; all
            other labels are final and cost their cross-entropy.
        again_BK: the label was read in an earlier run already, bool; only where ``open_BK``.
        complete_BK: F, the share of positives of the row's segment that are known at the age of the first
            reading, in [0, 1]; anything in it where ``open_BK`` is false, and where no policy asks.
    """

    open_BK: Tensor
    again_BK: Tensor
    complete_BK: Tensor

    def of(self, objectives: Sequence[int]) -> Reading:
        """The same rows, of some of the objectives."""
        k = list(objectives)
        return Reading(self.open_BK[:, k], self.again_BK[:, k], self.complete_BK[:, k])

    def to(self, device: torch.device) -> Reading:
        """The same rows there."""
        return Reading(self.open_BK.to(device), self.again_BK.to(device), self.complete_BK.to(device))


class Late(ABC):
    """What a line makes of labels that may still change; a policy speaks of objectives given another.

    The errors take log-probabilities of the label and of its absence, so that one equation serves a joint
    probability over all impressions (ESMM) and a conditional one on clicked rows (PLE). Probabilities in
    weights are the line's own and held fixed in the gradient.

    Its docstring has the lines ``Equation:``, ``Source:``, ``Use:`` and ``Cost:``, from which
    ``docs/models.md`` is made. In equations y is the label as it is known, F the share of positives that are
    known at its age, p the probability (its copy in weights held fixed) and l1, l0 the costs -log p and
    -log(1 - p).

    Attributes:
        reads: when labels of late objectives are read.
        needs_completeness: F is asked for; where there is none yet, labels wait until they are final.

    Args:
        hours: least age at the first reading; that of a parent whose label is final if older.

    Raises:
        ValueError: an age below 0.
    """

    reads: ClassVar[tuple[When, ...]]
    needs_completeness: ClassVar[bool] = False

    def __init__(self, *, hours: float = 0.0) -> None:
        if not hours >= 0:
            raise ValueError(f"hours must not be below 0, got {hours}.")
        self.hours = hours

    @abstractmethod
    def open_errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading) -> Tensor:
        """Error of every label as if all were open, shape (B, K); finite wherever the logits are.

        Args:
            hit_BK: log-probability that the label is 1.
            miss_BK: log-probability that it is 0.
            y_BK: the label as it is known, 0 or 1.
            reading: how far it could be known.
        """

    def errors(self, hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor, reading: Reading | None) -> Tensor:
        """Error of every label, shape (B, K): the policy's where it is open, else the cross-entropy.

        Args:
            hit_BK: as in ``open_errors``.
            miss_BK: as in ``open_errors``.
            y_BK: as in ``open_errors``.
            reading: ``None`` where all labels are final.
        """
        closed_BK = cross_entropy(hit_BK, miss_BK, y_BK)
        if reading is None:
            return closed_BK
        return torch.where(reading.open_BK, self.open_errors(hit_BK, miss_BK, y_BK, reading), closed_BK)


def cross_entropy(hit_BK: Tensor, miss_BK: Tensor, y_BK: Tensor) -> Tensor:
    """``y l1 + (1 - y) l0``, also of a y above 1."""
    return torch.lerp(miss_BK, hit_BK, y_BK).neg()


def unseen(hit_BK: Tensor, complete_BK: Tensor) -> Tensor:
    """``p (1 - F)``: the probability of a positive that is not known yet; without a gradient."""
    return hit_BK.detach().exp() * (1 - complete_BK)


def log_not_seen(hit_BK: Tensor, miss_BK: Tensor, complete_BK: Tensor) -> Tensor:
    """``log(1 - p F)`` as the sum of its two ways, never from a difference: no conversion, or a later one."""
    return torch.logaddexp(miss_BK, hit_BK + torch.log1p(-complete_BK))


def truly_negative(hit_BK: Tensor, miss_BK: Tensor, complete_BK: Tensor) -> Tensor:
    """``(1 - p) / (1 - p F)``: how likely a label of 0 stays 0; without a gradient."""
    hit_BK, miss_BK = hit_BK.detach(), miss_BK.detach()
    return (miss_BK - log_not_seen(hit_BK, miss_BK, complete_BK)).exp()


def check_floor(floor: float) -> float:
    """The least F to divide by.

    Raises:
        ValueError: it is no share above 0.
    """
    if not 0 < floor <= 1:
        raise ValueError(f"floor must lie in (0, 1], got {floor}.")
    return floor
