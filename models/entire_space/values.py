"""A funnel with values: the method learns the binary objectives, squared errors teach the values.

Shapes: B rows, K objectives in the order of the funnel, J binary ones among them, V values, H heads: the K
objectives first, then those that the method adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from features.funnel import Funnel
from models.entire_space.base import EntireSpace, Labels, inside, mean
from models.heads import Heads
from models.late.base import Late
from models.late.wait import Wait
from models.recalibrate import log_rates


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a line says of the rows of a batch.

    Attributes:
        conditional_BJ: log-probabilities of the binary objectives, each given its parent.
        joint_BJ: log-probabilities of reaching them from the impression.
        value_BV: expected values per event of the parent (or per impression), in the objective's unit.
    """

    conditional_BJ: Tensor
    joint_BJ: Tensor
    value_BV: Tensor


class Objectives:
    """All objectives of a funnel: those of the method, and the values beside them.

    Nothing is given a value, so the binary objectives are a funnel of their own and all that a method needs
    to see. A value is what its head says, without a link, and it is learned in its own space, on the rows
    whose parent happened:

    ``L_k = sum_i w_i s_ik (f_ik - y_ik) ** 2 / sum_i w_i s_ik``, with ``s_ik`` 1 where the label trains and
    the parent happened, and ``y`` the sum of the value over the objective's ``scale``.

    The minimum is the mean value per event of the parent, so times the probability of the parent it is the
    expected value per impression. Where clicks are selected by what the row does not tell, the mean over the
    clicked rows is not that over all impressions, as with ``Masked``.

    Source: Tang et al., Progressive Layered Extraction, RecSys 2020, equation 8: the mean over the rows of an
    objective's own space. Its view completion ratio is such an objective.

    Args:
        method: of the binary objectives.
        funnel: the tree.
        late: what is made of binary labels that could still change; waits if absent.

    Raises:
        ValueError: the method cannot be meant for the binary objectives.
    """

    def __init__(self, method: EntireSpace, funnel: Funnel, late: Late | None = None) -> None:
        self.late = late or Wait()
        self.method, self.funnel, self.binary = method, funnel, funnel.binary
        method.check(self.binary)
        kinds = [objective.kind for objective in funnel]
        self._binary = [k for k, kind in enumerate(kinds) if kind == "binary"]
        self._values = [k for k, kind in enumerate(kinds) if kind == "value"]
        of_method = method.heads(self.binary)
        # heads that the method adds come behind all objectives: head h of the method is head _read[h] here
        added = range(len(funnel), len(funnel) + len(of_method) - len(self.binary))
        self._read = [*self._binary, *added]
        follow = [None if parent is None else self._read[parent] for parent in of_method.parents]
        parents = dict(zip(self._read, follow, strict=True))
        parents |= {k: funnel.parent_index(funnel.objectives[k]) for k in self._values}
        self.heads = Heads(tuple(parents[h] for h in range(len(parents))), len(funnel))

    @property
    def squared(self) -> tuple[bool, ...]:
        """Which losses are squared errors, in the order of the funnel; the others are cross-entropies."""
        return tuple(objective.kind == "value" for objective in self.funnel)

    def counts(self, y_BK: Tensor, trains_BK: Tensor) -> Tensor:
        """Rows that each objective learns from, bool, shape (B, K)."""
        if not self._values:
            return self.method.counts(y_BK, trains_BK, self.funnel)
        counts_BK = torch.empty_like(trains_BK)
        own = self._binary
        counts_BK[:, own] = self.method.counts(y_BK[:, own], trains_BK[:, own], self.binary)
        for k in self._values:
            counts_BK[:, k] = inside(y_BK, trains_BK, self.funnel, k)
        return counts_BK

    def losses(self, logits_BH: Tensor, labels: Labels) -> Tensor:
        """One loss per objective, shape (K,).

        Args:
            logits_BH: in the order of ``heads``; of a value, the value itself.
            labels: of the same rows.
        """
        labels = replace(labels, late=self.late)
        if not self._values:
            return self.method.losses(logits_BH, labels, self.funnel)
        own = labels.of(self._binary)
        losses = dict(
            zip(self._binary, self.method.losses(logits_BH[:, self._read], own, self.binary), strict=True)
        )
        y_BK = labels.known_BK
        for k in self._values:
            inside_B = inside(labels.y_BK, labels.trains_BK, self.funnel, k)
            losses[k] = mean((logits_BH[:, k] - y_BK[:, k]).square(), inside_B, labels.weight_B)
        return torch.stack([losses[k] for k in range(len(self.funnel))])

    def predictions(self, logits_BH: Tensor) -> Predictions:
        """What these logits say, in the order of ``heads``."""
        own_BH = logits_BH[:, self._read] if self._values else logits_BH
        conditional_BJ, joint_BJ = self.method.log_probabilities(own_BH, self.binary)
        return Predictions(conditional_BJ, joint_BJ, logits_BH[:, self._values])

    def log_rates(self, negative_rates: Sequence[float] | None) -> Tensor:
        """Logarithms of the rates of negatives, shape (K,); see ``models.recalibrate``.

        Raises:
            ValueError: rates that cannot be, or one other than 1 for a value, which has no odds to put right.
        """
        rates_K = log_rates(negative_rates, len(self.funnel))
        if moved := [self.funnel.names[k] for k in self._values if rates_K[k] != 0]:
            raise ValueError(f"{moved} are values and have no negatives; their rates must be 1.")
        return rates_K

    def units(self) -> dict[str, Tensor]:
        """What a state must agree in, by name: the scale of every objective, 0 of a binary one, shape (K,).

        Nothing where no objective is a value.
        """
        if not self._values:
            return {}
        scales = [o.scale if o.kind == "value" else 0.0 for o in self.funnel]
        return {"scale_K": torch.tensor(scales, dtype=torch.float64)}

    def other_units(self, state: Mapping[str, Tensor]) -> list[str]:
        """What is wrong with the units of a state that has them: its heads mean other numbers."""
        return [
            f"{name} is {state[name].tolist()}, expected {own.tolist()}"
            for name, own in self.units().items()
            if name in state and state[name].shape == own.shape and not torch.equal(state[name], own)
        ]
