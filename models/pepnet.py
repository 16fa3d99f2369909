"""PEPNet: what is known of a row beforehand scales its embeddings and every layer of every tower.

Shapes: B rows, H heads, X columns of the flat input, P columns of the priors, I input width, G hidden units
of a gate, L gates that read the same (one per hidden layer of a tower), O output width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import Networks, uniform
from models.heads import Heads
from models.inputs import Entry, Inputs


class GateUnits(nn.Module):
    """The paper's Gate NUs: two layers from priors to numbers between 0 and 2, several on one input.

    Args:
        width: I, columns of the priors and of what is to be scaled.
        hidden: G.
        outputs: O of every gate.
        generator: source of the initial weights; biases start at zero, gates therefore near one.
    """

    def __init__(
        self, width: int, hidden: int, outputs: tuple[int, ...], *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.hidden = Networks(width, (hidden,), per_group=len(outputs), generator=generator)
        self.weights = nn.ParameterList(
            uniform(hidden, output, fan_in=hidden, generator=generator) for output in outputs
        )
        self.biases = nn.ParameterList(torch.zeros(output) for output in outputs)

    def forward(self, prior_BP: Tensor, main_BX: Tensor) -> list[Tensor]:
        """What each gate multiplies by, shape (B, O); no gradient flows to ``main_BX``."""
        both_BI = torch.cat((prior_BP, main_BX.detach()), dim=1)
        hidden_LBG = self.hidden(both_BI.unsqueeze(0))
        return [
            2 * torch.sigmoid(torch.addmm(bias_O, hidden_BG, weight_GO))
            for hidden_BG, weight_GO, bias_O in zip(hidden_LBG, self.weights, self.biases, strict=True)
        ]


class PEPNet(Architecture):
    """A tower per head whose input is scaled by the domain, and whose hidden layers by who meets what.

    EPNet scales the columns of the input, from the fields of the domain: scene, page, what users do there.
    PPNet scales the outputs of every hidden layer, in each tower by numbers of its own, from the fields of
    user, item and author. Both gates also read what they scale, or the towers read, but teach it nothing;
    the vectors of their own fields they do teach.

    Equation: ``gate(p, x) = 2 sigmoid(W' relu(W [p; sg(x)] + b) + b')``, ``e = gate(domain, x) * x``,
    ``h_l+1 = gate_hl(prior, e) * relu(W_hl h_l + b_hl)`` from ``h_0 = e``, ``logit_h = <w_h, h_L> + b_h``.
    Source: Chang et al., PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized
    Prior Information, KDD 2023, section 3; equations after descriptions and unofficial code, the paper's own
    text could not be read.
    Use: where one line serves several scenes, or where few users and items weigh much.
    Cost: H networks, and a gate with as many outputs as they have inputs and hidden units.

    Args:
        entry: layout of the input.
        heads: the logits.
        domain: names of the fields of the domain; ``None`` takes every field.
        priors: names of the fields of user, item and author; ``None`` takes every field.
        layers: hidden widths of a tower.
        gate: G.
        generator: source of the initial weights.

    Raises:
        ValueError: a tower without hidden layers, which leaves nothing to scale, a gate without units, or a
            name that is no field.
    """

    def __init__(
        self,
        entry: Entry,
        heads: Heads,
        *,
        domain: tuple[str, ...] | None = None,
        priors: tuple[str, ...] | None = None,
        layers: tuple[int, ...] = (256, 128, 64),
        gate: int = 64,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not layers or gate < 1:
            raise ValueError(
                f"PEPNet needs at least one hidden layer and one unit in a gate, got layers={layers}, "
                f"gate={gate}."
            )
        self.domain = entry.positions(entry.fields if domain is None else domain)
        self.priors = entry.positions(entry.fields if priors is None else priors)
        width, num_heads = entry.width, len(heads)
        self.embedding_gate = GateUnits(
            len(self.domain) * entry.dim + width, gate, (width,), generator=generator
        )
        self.layer_gates = GateUnits(
            len(self.priors) * entry.dim + width,
            gate,
            tuple(num_heads * layer for layer in layers),
            generator=generator,
        )
        # the first layers of all towers read the same input, later ones what their own gate leaves
        self.layers = nn.ModuleList(
            [Networks(width, layers[:1], per_group=num_heads, generator=generator)]
            + [
                Networks(before, (after,), groups=num_heads, per_group=1, generator=generator)
                for before, after in pairwise(layers)
            ]
        )
        self.weight_HO1 = uniform(num_heads, layers[-1], 1, fan_in=layers[-1], generator=generator)
        self.bias_H11 = nn.Parameter(torch.zeros(num_heads, 1, 1))

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, shape (B, H)."""
        x_BX = inputs.x_BX
        (scale_BX,) = self.embedding_gate(inputs.chosen(self.domain), x_BX)
        scaled_BX = scale_BX * x_BX
        gates = self.layer_gates(inputs.chosen(self.priors), scaled_BX)
        h = scaled_BX.unsqueeze(0)
        for layer, gate in zip(self.layers, gates, strict=True):
            h = layer(h)
            h = h * gate.view(len(gate), len(h), -1).transpose(0, 1)
        return torch.baddbmm(self.bias_H11, h, self.weight_HO1).squeeze(2).T

    def shared_parameters(self) -> list[nn.Parameter]:
        """The gate of the embeddings, and the first layers of the others."""
        return [*self.embedding_gate.parameters(), *self.layer_gates.hidden.parameters()]

    def last_shared(self) -> nn.Parameter:
        """Weight of the last layer of the gate of the embeddings, which stands before all towers."""
        weight: nn.Parameter = self.embedding_gate.weights[-1]
        return weight
