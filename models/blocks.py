"""Layers that the architectures are built from, with networks of equal shape run side by side.

Shapes: B rows, I input width, O output width, G groups that read the same input, N networks per group,
S = G * N networks in all, K objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.first_layer import First, first_layers
from models.folded import Folded
from models.native.networks import outputs_of, outputs_of_pairs, scored
from models.relu import relu_
from models.relu_networks import Layers, by_network, relu_networks, through, working_dtype
from models.split import Split


def _he_uniform(*shape: int, fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """Initial weights for layers followed by ReLU (He et al., ICCV 2015, equation 10, uniform form)."""
    bound = math.sqrt(6.0 / fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))


def uniform(*shape: int, fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """Initial weights of a linear map without ReLU behind it: variance ``1 / fan_in``."""
    bound = math.sqrt(3.0 / fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))


class Networks(nn.Module):
    """Multilayer perceptrons of equal shape with ReLU after every layer, as a few wide products.

    Group g holds N networks that read the same input; their first layers are one matrix product. Network
    ``n`` of group ``g`` has columns ``n * O .. (n + 1) * O`` of ``weights[0][g]`` and index ``g * N + n``
    in every later layer.

    Args:
        width: I.
        layers: output width of every layer, at least one.
        groups: G.
        per_group: N.
        generator: source of the initial weights; biases start at zero.
    """

    #: Whether what stands between the products is what ``ReluNetworks`` differentiates.
    relu: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        layers: tuple[int, ...],
        *,
        groups: int = 1,
        per_group: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not layers:
            raise ValueError("A network needs at least one layer, got layers=().")
        self.groups, self.per_group, self.out_width = groups, per_group, layers[-1]
        first, *later = layers
        weights = [_he_uniform(groups, width, per_group * first, fan_in=width, generator=generator)]
        biases = [nn.Parameter(torch.zeros(groups, 1, per_group * first))]
        for before, after in zip(layers, later, strict=False):
            weights.append(_he_uniform(groups * per_group, before, after, fan_in=before, generator=generator))
            biases.append(nn.Parameter(torch.zeros(groups * per_group, 1, after)))
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Outputs of all networks, shape (S, B, O); networks of one group are neighbours."""
        return torch.stack(self.each(inputs))

    def each(
        self,
        inputs: Tensor | Sequence[Tensor],
        head: tuple[Tensor, Tensor] | None = None,
        *,
        first: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, ...]:
        """``forward`` network by network, and what a linear layer behind each makes of it.

        Args:
            inputs: of every group, shape (B, I); also as one tensor, shape (G, B, I).
            head: weight (S, O, Z) and bias (S, 1, Z) of that layer; a result then has shape (B, Z).
            first: outputs of the first layer, where an input that is held by vocabulary has met it.
        """
        more = [] if head is None else [head]
        if not self.relu or inputs[0].device.type != "cpu":
            return self._layer_by_layer(inputs, more)
        layers = [*zip(self.weights, self.biases, strict=True), *more]
        pairs = _together(inputs) if isinstance(inputs[0], Split) else None
        if isinstance(pairs, Split):
            return self._of_pairs(pairs, layers[1:], linear=head is not None)
        if len(inputs) == 1 and isinstance(x_BI := inputs[0], Folded):
            read, layers = first or first_layers(x_BI, [self.first()])[0], layers[1:]
        else:
            read = _apart(inputs)
        if not layers:
            return read
        weights, biases = zip(*layers, strict=True)
        networks = self.groups * self.per_group
        return relu_networks(weights, biases, read, networks=networks, linear=head is not None)

    def first(self) -> First:
        """The first layer of the networks of a single group."""
        widths = [self.weights[0].shape[2] // self.per_group] * self.per_group
        return First(self.weights[0][0], self.biases[0][0, 0], widths, self.relu)

    def _of_pairs(
        self, x_GBI: Split, later: Sequence[tuple[Tensor, Tensor]], *, linear: bool
    ) -> tuple[Tensor, ...]:
        """``each`` for pairs, one network after the other: what a layer hands on is still in cache."""
        networks, dtype = self.groups * self.per_group, working_dtype(x_GBI)
        weights, biases = zip(*later, strict=True) if later else ((), ())
        if later and scored(dtype, [x_GBI], (*weights, *biases)):
            return tuple(self._by_kernels(n, x_GBI, later, linear=linear) for n in range(networks))

        def apart() -> list[Layers]:
            return by_network(weights, biases, networks, dtype)

        # of what stands behind, too: the same networks may have one head at one time, none at another
        key = ("later layers", dtype, *(id(weight) for weight, _ in later))
        layers = x_GBI.once(key, later, apart) if later else [[]] * networks
        found: list[Tensor] = []
        for n, own in enumerate(layers):
            read = relu_(x_GBI.added(*self._first_of(n), rows_axis=0))
            found.append(through(own, read, linear=linear)[-1] if own else read)
        return tuple(found)

    def _by_kernels(
        self, n: int, x_GBI: Split, later: Sequence[tuple[Tensor, Tensor]], *, linear: bool
    ) -> Tensor:
        """What network n makes of pairs, shape (B, O)."""
        weights, biases = ([one[n : n + 1] for one in told] for told in zip(*later, strict=True))
        if (addends := x_GBI.addends(*self._first_of(n))) is not None:
            return outputs_of_pairs(*addends, weights, biases, linear=linear)
        read = relu_(x_GBI.added(*self._first_of(n), rows_axis=0))
        dtype = working_dtype(x_GBI)
        return outputs_of([read], weights, biases, networks=1, linear=linear, dtype=dtype)[0][0]

    def _first_of(self, n: int) -> tuple[Hashable, object, Callable[[Tensor, Tensor, bool], Tensor]]:
        """The first layer of network n: what it makes of a side, shape (R, O), as ``Split`` wants it told."""
        group, place = divmod(n, self.per_group)

        def own(values_GRI: Tensor, places_I: Tensor, first: bool) -> Tensor:
            width = self.weights[0].shape[2] // self.per_group
            weight_IO, bias_1O = (
                told[0][group].narrow(1, place * width, width) for told in (self.weights, self.biases)
            )
            values_RI, own_IO = values_GRI[group], weight_IO.index_select(0, places_I)
            return torch.addmm(bias_1O, values_RI, own_IO) if first else torch.mm(values_RI, own_IO)

        return ("first layer", id(self), n), self, own

    def _layer_by_layer(
        self, inputs: Tensor | Sequence[Tensor], more: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        """``each``, all networks at once, as an accelerator wants it."""
        h_SBO = self._activated(self._first(_together(inputs)), 0)
        later = zip(list(self.weights)[1:], list(self.biases)[1:], strict=True)
        for layer, (weight_SIO, bias_S1O) in enumerate(later, start=1):
            h_SBO = self._activated(torch.baddbmm(bias_S1O, h_SBO, weight_SIO), layer)
        for weight_SOZ, bias_S1Z in more:
            h_SBO = torch.baddbmm(bias_S1Z, h_SBO, weight_SOZ)
        return h_SBO.unbind()

    def _first(self, x_GBI: Tensor) -> Tensor:
        """What the first layer's products make of the input, shape (S, B, O)."""
        weight_GIW, bias_G1W = self.weights[0], self.biases[0]
        if not isinstance(x_GBI, Split):
            return self._by_network(torch.baddbmm(bias_G1W, x_GBI, weight_GIW))

        def own(values_GRI: Tensor, places_I: Tensor, first: bool) -> Tensor:
            own_GIW = weight_GIW.index_select(1, places_I)
            h_GRW = torch.baddbmm(bias_G1W, values_GRI, own_GIW) if first else torch.bmm(values_GRI, own_GIW)
            # in one piece by network, as later layers want what they read
            return self._by_network(h_GRW).contiguous()

        return x_GBI.added(("first layer", id(self)), self, own, rows_axis=1)

    def _by_network(self, h_GBW: Tensor) -> Tensor:
        """Outputs of the first layer by network, shape (S, B, O)."""
        groups, rows, _ = h_GBW.shape
        return h_GBW.view(groups, rows, self.per_group, -1).transpose(1, 2).flatten(0, 1)

    def _activated(self, h: Tensor, layer: int) -> Tensor:
        """What a layer hands on, shape (S, B, O); may overwrite what it is given."""
        del layer
        return h.relu_()


class NormalisedNetworks(Networks):
    """``Networks`` whose layers end in a normalisation over their units and Swish instead of in ReLU.

    A network is on the scale of all others, and rows do not see each other (Ba et al.,
    Layer Normalization, 2016). Takes the arguments of ``Networks``; scales start at one, shifts at zero.
    """

    relu: ClassVar[bool] = False

    def __init__(
        self,
        width: int,
        layers: tuple[int, ...],
        *,
        groups: int = 1,
        per_group: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(width, layers, groups=groups, per_group=per_group, generator=generator)
        self.layers = layers
        shapes = [bias.squeeze(1).shape for bias in self.biases]
        self.scales = nn.ParameterList(torch.ones(shape) for shape in shapes)
        self.shifts = nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def _activated(self, h: Tensor, layer: int) -> Tensor:
        width = self.layers[layer]
        scale_S1O, shift_S1O = (told[layer].view(-1, 1, width) for told in (self.scales, self.shifts))
        normal_SBO = functional.layer_norm(h, (width,))
        return functional.silu(torch.addcmul(shift_S1O, normal_SBO, scale_S1O))


class ObjectiveTowers(nn.Module):
    """One tower per objective, or one for several: a network and a linear layer to a logit per objective.

    Args:
        width: I.
        num_objectives: K.
        layers: output width of every hidden layer.
        same_input: every tower reads the same input if true, its own otherwise.
        tower_of: number of the tower of each objective; one of its own where none is told.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int,
        num_objectives: int,
        layers: tuple[int, ...],
        *,
        same_input: bool,
        tower_of: tuple[int, ...] | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.tower_of = None if tower_of is None else list(tower_of)
        towers = num_objectives if tower_of is None else max(tower_of) + 1
        groups, per_group = (1, towers) if same_input else (towers, 1)
        self.hidden = Networks(width, layers, groups=groups, per_group=per_group, generator=generator)
        # the logit starts on the scale of its input
        self.weight_KO1 = uniform(num_objectives, layers[-1], 1, fan_in=layers[-1], generator=generator)
        self.bias_K11 = nn.Parameter(torch.zeros(num_objectives, 1, 1))

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits, shape (B, K), of one input for all (G = 1) or of one per tower."""
        head = self.weight_KO1, self.bias_K11
        if self.tower_of is None:
            return torch.cat(self.hidden.each(inputs, head), dim=1)
        return torch.baddbmm(self.bias_K11, self.hidden(inputs)[self.tower_of], self.weight_KO1).squeeze(2).T


def _apart(inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The input of every group; of a single one its view, whose gradient needs no copy."""
    if isinstance(inputs, Tensor):
        return inputs.unbind() if len(inputs) > 1 else (inputs.squeeze(0),)
    return tuple(inputs)


def _together(inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """The inputs of all groups, shape (G, B, I)."""
    if isinstance(inputs, Tensor):
        return inputs
    return torch.stack([*inputs]) if len(inputs) > 1 else inputs[0].unsqueeze(0)
