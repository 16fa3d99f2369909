"""Gates: weights over experts that depend on the input, and the sum over experts that they weigh.

Shapes: B rows, I input width, O output width of an expert, E experts of a gate, A experts of several gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.blocks import Networks
from models.first_layer import First, first_layers
from models.folded import Folded
from models.held import Held
from models.mixture import mixtures
from models.native.gates import NativeGates
from models.native.networks import served
from models.relu_networks import working_dtype

#: A share below which an expert has no say: what divides by it would not be exact.
_NOTHING = 1e-6


class Gate(nn.Module):
    """Weights over experts that depend on the input: ``softmax(W x)``, linear and without bias.

    With ``dropout``, a gate that learns passes over each expert of a row with that probability, and those
    that are left share what it had: ``m_e w_e / sum_i m_i w_i``. No gate settles on one expert then, and
    every expert learns to do without the others; scores are made with all of them. A row that would keep
    next to nothing (a millionth) keeps all.

    Source: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts, KDD 2018, section 4.2; PLE uses the same form (RecSys 2020, equation 2). Dropout:
    Zhao et al., Recommending What Video to Watch Next: A Multitask Ranking System, RecSys 2019, with 0.1.
    Starts at W = 0, so that every expert begins with an equal say.

    Args:
        width: I.
        num_experts: E.
        dropout: probability of an expert to be passed over.

    Raises:
        ValueError: the probability is not in [0, 1).
    """

    def __init__(self, width: int, num_experts: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"Experts are dropped with a probability in [0, 1), got {dropout}.")
        self.dropout = dropout
        self.weight_EI = nn.Parameter(torch.zeros(num_experts, width))

    def forward(self, selector_BI: Tensor) -> Tensor:
        """Weights of the experts, shape (E, B); each column sums to one."""
        return weigh([self], selector_BI)[0]

    def kept(self, weight_EB: Tensor) -> Tensor:
        """Weights after dropout, shape (E, B); as they are where the gate does not learn."""
        if not (self.dropout and self.training):
            return weight_EB
        kept_EB = torch.where(torch.rand_like(weight_EB) < self.dropout, 0, weight_EB)
        kept_EB = torch.where(kept_EB.sum(0) < _NOTHING, weight_EB, kept_EB)
        return kept_EB / kept_EB.sum(0)


def weigh(gates: Sequence[Gate], selector_BI: Tensor) -> tuple[Tensor, ...]:
    """What each gate says of the same input, as one product: a narrow one costs a pass over the input.

    Returns:
        Weights of the experts by gate, each of shape (E, B) with the gate's own E.
    """
    weights: list[Tensor] = [gate.weight_EI for gate in gates]
    if not isinstance(selector_BI, Held) and served(working_dtype(selector_BI), [selector_BI], weights):
        return _kept(gates, NativeGates.apply(selector_BI, *weights))  # type: ignore[no-untyped-call]
    weight_AI = torch.cat(weights)
    if isinstance(selector_BI, Folded):
        ((logits_BA,),) = first_layers(selector_BI, [First(weight_AI.T, None, [len(weight_AI)], relu=False)])
        return _softmax(gates, logits_BA.T)
    return _softmax(gates, torch.matmul(weight_AI, selector_BI.T))


def read_alike(
    networks: Sequence[Networks], gates: Sequence[Gate], x_BI: Tensor
) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Networks and gates that read the same input; where it is held by vocabulary, as one product.

    Returns:
        Outputs of the networks as by ``each``, and what the gates say as by ``weigh``.
    """
    if not isinstance(x_BI, Folded) or not all(one.relu for one in networks):
        return [one.each([x_BI]) for one in networks], weigh(gates, x_BI)
    weight_AI = torch.cat([gate.weight_EI for gate in gates])
    asked = [*(one.first() for one in networks), First(weight_AI.T, None, [len(weight_AI)], relu=False)]
    *firsts, (logits_BA,) = first_layers(x_BI, asked)
    outputs = [one.each([x_BI], first=first) for one, first in zip(networks, firsts, strict=True)]
    return outputs, _softmax(gates, logits_BA.T)


def _softmax(gates: Sequence[Gate], logits_AB: Tensor) -> tuple[Tensor, ...]:
    """What gates say whose logits lie below each other."""
    parts = logits_AB.split_with_sizes([len(gate.weight_EI) for gate in gates])
    return _kept(gates, [torch.softmax(part_EB, dim=0) for part_EB in parts])


def _kept(gates: Sequence[Gate], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What is left of the weights that each gate gave."""
    return tuple(gate.kept(weight_EB) for gate, weight_EB in zip(gates, weights, strict=True))


def mix(weight_EB: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """Weighted sum over experts, shape (B, O).

    Args:
        weight_EB: output of a ``Gate``.
        experts: E outputs of shape (B, O), in the order of the gate. One by one they need no copy of all,
            forward or backward.
    """
    return mixtures([weight_EB], experts, [range(len(experts))])[0]
