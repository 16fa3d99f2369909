"""What tests of networks compute by themselves: one network of many, a tower, a gate; what reaches what."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, ObjectiveTowers
from models.gates import Gate
from models.heads import Heads
from models.inputs import Entry, Inputs

K, WIDTH = 3, 5
ENTRY, HEADS = Entry(WIDTH, 1, (), WIDTH), Heads.free(K)


def drawn(network: nn.Module) -> nn.Module:
    """The network in float64 with every parameter random and most units alive: no zero hides a connection."""
    generator = torch.Generator().manual_seed(5)
    network.double()
    for name, parameter in network.named_parameters():
        parameter.data.normal_(1.0 if "bias" in name else 0.0, 0.5, generator=generator)
    return network


def inputs(rows: int = 40) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(rows, WIDTH)))


def read(x_BI: Tensor | None = None) -> Inputs:
    """Quantities alone: the flat input is all that these networks look at."""
    x_BI = inputs() if x_BI is None else x_BI
    return Inputs(x_BI.unsqueeze(0), torch.empty(1, len(x_BI), 0, 1), x_BI)


def reach(network: nn.Module, given: Inputs | None = None) -> dict[str, list[Tensor]]:
    """For every parameter and logit: which of its elements move that logit."""
    logits_BK = network(read() if given is None else given)
    moved: dict[str, list[Tensor]] = {}
    for k in range(logits_BK.shape[1]):
        network.zero_grad(set_to_none=False)
        logits_BK[:, k].sum().backward(retain_graph=True)
        for name, p in network.named_parameters():
            moved.setdefault(name, []).append(torch.zeros_like(p) != 0 if p.grad is None else p.grad != 0)
    return moved


def reached(network: nn.Module, given: Inputs | None = None) -> dict[str, list[bool]]:
    """For every parameter: which logits it moves."""
    return {name: [bool(m.any()) for m in moved] for name, moved in reach(network, given).items()}


def network_of(experts: Networks, index: int, x_BI: np.ndarray) -> np.ndarray:
    """One of the side-by-side networks, layer by layer."""
    group, place = divmod(index, experts.per_group)
    first = experts.weights[0].shape[2] // experts.per_group
    columns = slice(place * first, (place + 1) * first)
    h = x_BI @ experts.weights[0][group][:, columns].detach().numpy()
    h = np.maximum(h + experts.biases[0][group][:, columns].detach().numpy(), 0)
    for weight, bias in zip(list(experts.weights)[1:], list(experts.biases)[1:], strict=True):
        h = np.maximum(h @ weight[index].detach().numpy() + bias[index].detach().numpy(), 0)
    return h


def tower_of(towers: ObjectiveTowers, k: int, x_BI: np.ndarray) -> np.ndarray:
    h = network_of(towers.hidden, k, x_BI)
    return (h @ towers.weight_KO1[k].detach().numpy() + towers.bias_K11[k].detach().numpy())[:, 0]


def fuse(gate: Gate, selector: np.ndarray, experts: list[np.ndarray]) -> np.ndarray:
    """PLE equations 2-3: softmax of a linear map of the selector, times the selected vectors."""
    score = np.exp(selector @ gate.weight_EI.detach().numpy().T)
    weight = score / score.sum(axis=1, keepdims=True)
    return sum(weight[:, [e]] * expert for e, expert in enumerate(experts))


def assert_shared_is_declared(model: Architecture, given: Inputs | None = None) -> None:
    declared = {id(p) for p in model.shared_parameters()}
    moved = reach(drawn(model), given)
    found = {id(p) for name, p in model.named_parameters() if (torch.stack(moved[name]).sum(dim=0) > 1).any()}
    names = {id(p): name for name, p in model.named_parameters()}
    reached, told = {names[i] for i in found}, {names[i] for i in declared}
    assert reached == told, f"shared but not declared: {reached - told}; the reverse: {told - reached}"
    assert len(model.shared_parameters()) == len(declared), "named twice"
