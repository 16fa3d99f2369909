"""Gates: weights over experts that depend on the input, and the sum over experts that they weigh.

Shapes: B rows, I input width, O output width of an expert, E experts of a gate, A experts of several gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


class Gate(nn.Module):
    """Weights over experts that depend on the input: ``softmax(W x)``, linear and without bias.

    Source: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts, KDD 2018, section 4.2; PLE uses the same form (RecSys 2020, equation 2).
    Starts at W = 0, so that every expert begins with an equal say.

    Args:
        width: I.
        num_experts: E.
    """

    def __init__(self, width: int, num_experts: int) -> None:
        super().__init__()
        self.weight_EI = nn.Parameter(torch.zeros(num_experts, width))

    def forward(self, selector_BI: Tensor) -> Tensor:
        """Weights of the experts, shape (E, B); each column sums to one."""
        return weigh([self], selector_BI)[0]


def weigh(gates: Iterable[Gate], selector_BI: Tensor) -> tuple[Tensor, ...]:
    """What each gate says of the same input, as one product: a narrow one costs a pass over the input.

    Returns:
        Weights of the experts by gate, each of shape (E, B) with the gate's own E.
    """
    weights = [gate.weight_EI for gate in gates]
    if not isinstance(selector_BI, Held) and served(working_dtype(selector_BI), [selector_BI], weights):
        return NativeGates.apply(selector_BI, *weights)  # type: ignore[no-any-return, no-untyped-call]
    weight_AI, sizes = _together(weights)
    if isinstance(selector_BI, Folded):
        ((logits_BA,),) = first_layers(selector_BI, [First(weight_AI.T, None, [len(weight_AI)], relu=False)])
        return _softmax(logits_BA.T, sizes)
    return _softmax(torch.matmul(weight_AI, selector_BI.T), sizes)


def read_alike(
    networks: Sequence[Networks], gates: Iterable[Gate], x_BI: Tensor
) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Networks and gates that read the same input; where it is held by vocabulary, as one product.

    Returns:
        Outputs of the networks as by ``each``, and what the gates say as by ``weigh``.
    """
    if not isinstance(x_BI, Folded) or not all(one.relu for one in networks):
        return [one.each([x_BI]) for one in networks], weigh(gates, x_BI)
    weight_AI, sizes = _together([gate.weight_EI for gate in gates])
    asked = [*(one.first() for one in networks), First(weight_AI.T, None, [len(weight_AI)], relu=False)]
    *firsts, (logits_BA,) = first_layers(x_BI, asked)
    outputs = [one.each([x_BI], first=first) for one, first in zip(networks, firsts, strict=True)]
    return outputs, _softmax(logits_BA.T, sizes)


def _together(weights: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Weights of gates below each other, and how many experts each selects from."""
    return torch.cat([*weights]), [len(weight_EI) for weight_EI in weights]


def _softmax(logits_AB: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return tuple(torch.softmax(part_EB, dim=0) for part_EB in logits_AB.split_with_sizes(sizes))


def mix(weight_EB: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """Weighted sum over experts, shape (B, O).

    Args:
        weight_EB: output of a ``Gate``.
        experts: E outputs of shape (B, O), in the order of the gate. One by one they need no copy of all,
            forward or backward.
    """
    return mixtures([weight_EB], experts, [range(len(experts))])[0]
