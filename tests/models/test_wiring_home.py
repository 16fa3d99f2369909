"""HoME and PEPNet: what they compute, by loops, what each logit teaches, and where gradients stop."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
import torch
from test_wiring import (
    ENTRY,
    HEADS,
    K,
    assert_shared_is_declared,
    drawn,
    fuse,
    inputs,
    network_of,
    reach,
    read,
    tower_of,
)

from models.blocks import NormalisedNetworks
from models.heads import Heads
from models.home import FeatureGate, GatedExperts, HoME, SelfGate
from models.inputs import Entry, Inputs
from models.pepnet import GateUnits, PEPNet


def array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().numpy()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(score_BE: np.ndarray) -> np.ndarray:
    weight = np.exp(score_BE)
    return weight / weight.sum(axis=1, keepdims=True)


def columns(weight_GIW: torch.Tensor, unit: int, width: int) -> np.ndarray:
    """What belongs to one unit, whether the units lie side by side or one below the other."""
    group, place = divmod(unit, weight_GIW.shape[2] // width)
    return array(weight_GIW)[group][:, place * width : (place + 1) * width]


def expert_of(networks: NormalisedNetworks, index: int, x_BI: np.ndarray) -> np.ndarray:
    """Layer by layer and row by row: linear, normalised over the units, scaled, shifted, Swish."""
    for layer, width in enumerate(networks.layers):
        weight, bias = columns(networks.weights[layer], index, width), networks.biases[layer]
        group, place = divmod(index, bias.shape[2] // width)
        mine = slice(place * width, (place + 1) * width)
        scale, shift = array(networks.scales[layer])[group, mine], array(networks.shifts[layer])[group, mine]
        rows = []
        for row in x_BI @ weight + array(bias)[group, 0, mine]:
            y = (row - row.mean()) / np.sqrt(row.var() + 1e-5) * scale + shift
            rows.append(y * sigmoid(y))
        x_BI = np.array(rows)
    return x_BI


def feature_gate_of(gate: FeatureGate, unit: int, x_BI: np.ndarray) -> np.ndarray:
    """HoME's low-rank gates, weighed by a softmax, times the input."""
    down = columns(gate.down_GIW, unit, gate.parts * gate.rank)
    parts = [
        2
        * sigmoid(
            x_BI @ down[:, p * gate.rank : (p + 1) * gate.rank] @ array(gate.up_SRI)[unit * gate.parts + p]
        )
        for p in range(gate.parts)
    ]
    if gate.choice_GIW is None:
        return x_BI * parts[0]
    share_BP = softmax(x_BI @ columns(gate.choice_GIW, unit, gate.parts))
    return x_BI * sum(share_BP[:, [p]] * part for p, part in enumerate(parts))


def self_gate_of(gate: SelfGate, unit: int, x_BI: np.ndarray, experts: list[np.ndarray]) -> np.ndarray:
    score_BN = x_BI @ columns(gate.weight_GIW, unit, gate.experts)
    weight_BN = sigmoid(score_BN) if gate.experts == 1 else softmax(score_BN)
    return sum(weight_BN[:, [n]] * expert for n, expert in enumerate(experts))


def unit_of(part: GatedExperts, unit: int, x_BI: np.ndarray) -> list[np.ndarray]:
    """The experts of one unit."""
    count = part.networks.per_group
    gated = feature_gate_of(part.gate, unit, x_BI)
    return [expert_of(part.networks, unit * count + n, gated) for n in range(count)]


def home_reference(model: HoME, group_of: tuple[int, ...]) -> np.ndarray:
    x, num_groups = inputs().numpy(), max(group_of) + 1
    meta = [unit_of(model.meta, u, x) for u in range(num_groups + 1)]
    z = [fuse(model.group_gates[g], x, meta[g] + meta[-1]) for g in range(num_groups)]
    z.append(fuse(model.all_gate, x, list(chain.from_iterable(meta))))
    z = [z_BM + self_gate_of(model.meta_self, u, x, meta[u]) for u, z_BM in enumerate(z)]
    common = [unit_of(model.common, u, z[u]) for u in range(num_groups + 1)]
    logits = []
    for h, group in enumerate(group_of):
        own = unit_of(model.own, h, z[group])
        selector = np.concatenate((z[group], z[-1]), axis=1)
        fused = fuse(model.head_gates[h], selector, own + common[group] + common[-1])
        fused = fused + self_gate_of(model.own_self, h, z[group], own)
        logits.append(tower_of(model.towers, h, fused))
    return np.stack(logits, axis=1)


def home(generator: torch.Generator, heads: Heads = HEADS, **changed: object) -> HoME:
    settings = {"experts": 2, "meta": (6,), "expert": (5,), "layers": (4,), "gate_rank": 3} | changed
    return drawn(HoME(ENTRY, heads, **settings, generator=generator))


ALONE = ((1,), (0,), (2,))


@pytest.mark.parametrize(
    ("group_of", "changed"),
    [
        ((0, 0, 0), {}),
        ((0, 0, 0), {"experts": 1, "gate_parts": 1}),
        ((0, 1, 0), {"groups": ((2, 0), (1,)), "gate_parts": 3, "experts": 3}),
        ((0, 1, 0), {"groups": ((2, 0), (1,)), "meta": (7, 6), "expert": (6, 5)}),
        ((1, 0, 2), {"groups": ALONE}),
        ((1, 0, 2), {"groups": ALONE, "experts": 1, "meta": (7, 6), "expert": (6, 5)}),
    ],
)
def test_home_computes_its_equations(
    generator: torch.Generator, group_of: tuple[int, ...], changed: dict[str, object]
) -> None:
    model = home(generator, **changed)
    expected = home_reference(model, group_of)
    np.testing.assert_allclose(model(read()).detach(), expected, rtol=1e-9, atol=1e-12)
    assert_shared_is_declared(model)


def test_a_feature_gate_begins_near_one_on_the_small_vectors_of_the_start(generator: torch.Generator) -> None:
    gate = FeatureGate(5, 2, same_input=True, parts=2, rank=3, generator=generator).double()
    x_1BI = inputs().unsqueeze(0) * 1e-4
    np.testing.assert_allclose(gate(x_1BI).detach(), x_1BI.expand(2, -1, -1), rtol=1e-3)


def by_unit(moved: list[torch.Tensor], width: int) -> np.ndarray:
    """By unit and head, whether a weight of the unit moves the logit."""
    by_head = [m.unflatten(2, (-1, width)).transpose(1, 2).flatten(0, 1).flatten(1).any(dim=1) for m in moved]
    return torch.stack(by_head, dim=1).numpy()


def test_home_masks_what_a_head_may_select(generator: torch.Generator) -> None:
    """Heads 0 and 2 are alike, head 1 is alone: the hierarchy as a matrix of units by heads."""
    moved = reach(home(generator, groups=((0, 2), (1,))))
    own, everyone = np.eye(K, dtype=bool), np.ones((K, K), dtype=bool)
    groups = np.array([[True, False, True], [False, True, False]])
    common = np.concatenate((groups, everyone[:1]))
    parts, rank = 2, 3
    for name, width, declared in (
        ("meta.networks.weights.0", 2 * 6, everyone),
        ("meta.gate.down_GIW", parts * rank, everyone),
        ("meta_self.weight_GIW", 2, common),
        ("common.networks.weights.0", 2 * 5, common),
        ("common.gate.down_GIW", parts * rank, common),
        ("common.gate.choice_GIW", parts, common),
        ("own.networks.weights.0", 2 * 5, own),
        ("own.gate.down_GIW", parts * rank, own),
        ("own_self.weight_GIW", 2, own),
    ):
        np.testing.assert_array_equal(by_unit(moved[name], width), declared, err_msg=name)
    for name, declared in (("group_gates", groups), ("head_gates", own)):
        for number, heads in enumerate(declared):
            assert [bool(m.any()) for m in moved[f"{name}.{number}.weight_EI"]] == list(heads), name


def test_a_head_without_a_group_joins_the_one_that_it_follows(generator: torch.Generator) -> None:
    """Heads 3 and 4 are a method's own: the one follows head 1, the other follows nothing."""
    model = home(generator, Heads((None, 0, 0, 1, None), 3), groups=((0,), (1, 2)))
    assert model.group_of == [0, 1, 1, 1, 0]
    np.testing.assert_allclose(model(read()).detach(), home_reference(model, (0, 1, 1, 1, 0)), rtol=1e-9)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"experts": 0}, "at least one expert"),
        ({"gate_rank": 0}, "rank"),
        ({"expert": (4, 1)}, "two units"),
        ({"groups": ((0, 1), ())}, "A group needs heads"),
        ({"groups": ((0, 1), (1, 2))}, "a head one group"),
        ({"groups": ((0, 3),)}, "heads are 0 to 2"),
    ],
)
def test_home_refuses_what_it_cannot_build(
    generator: torch.Generator, changed: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        home(generator, **changed)


#: Three fields with two numbers each, and a quantity: the layout of ``make_inputs``.
FIELDS = Entry(7, 2, ("user", "item", "scene"), 1)


def pepnet(generator: torch.Generator, heads: Heads = HEADS, **changed: object) -> PEPNet:
    settings = {"domain": ("scene",), "priors": ("item", "user"), "layers": (5, 4), "gate": 6} | changed
    return drawn(PEPNet(FIELDS, heads, **settings, generator=generator))


def gate_unit_of(gates: GateUnits, number: int, prior: np.ndarray, main: np.ndarray) -> np.ndarray:
    hidden = network_of(gates.hidden, number, np.concatenate((prior, main), axis=1))
    return 2 * sigmoid(hidden @ array(gates.weights[number]) + array(gates.biases[number]))


def pepnet_reference(
    model: PEPNet,
    domain: np.ndarray,
    prior: np.ndarray,
    x: np.ndarray,
    read_by_gates: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and the scaled input; gates may read another input than the one that is scaled."""
    gates_x, gates_scaled = (x, None) if read_by_gates is None else read_by_gates
    scaled = gate_unit_of(model.embedding_gate, 0, domain, gates_x) * x
    logits = []
    for head in range(len(model.bias_H11)):
        h = scaled
        for number, layer in enumerate(model.layers):
            gate = gate_unit_of(
                model.layer_gates, number, prior, scaled if gates_scaled is None else gates_scaled
            )
            h = network_of(layer, head, h)
            h = h * gate[:, head * h.shape[1] : (head + 1) * h.shape[1]]
        logits.append((h @ array(model.weight_HO1[head]) + array(model.bias_H11[head]))[:, 0])
    return np.stack(logits, axis=1), scaled


@pytest.mark.parametrize(
    ("changed", "domain", "priors"),
    [
        ({}, [2], [1, 0]),
        ({"domain": None, "priors": None, "layers": (4,)}, [0, 1, 2], [0, 1, 2]),
        ({"domain": (), "layers": (4, 5, 3)}, [], [1, 0]),
    ],
)
def test_pepnet_computes_its_equations(
    make_inputs: Callable[..., Inputs],
    generator: torch.Generator,
    changed: dict[str, object],
    domain: list[int],
    priors: list[int],
) -> None:
    model, given = pepnet(generator, **changed), make_inputs(20)
    vectors = given.vectors_SBFD[0].numpy()
    expected, _ = pepnet_reference(
        model,
        vectors[:, domain].reshape(20, -1),
        vectors[:, priors].reshape(20, -1),
        given.x_BX.numpy(),
    )
    np.testing.assert_allclose(model(given).detach(), expected, rtol=1e-9, atol=1e-12)
    assert_shared_is_declared(model, given)


def test_pepnets_gates_teach_their_priors_but_not_what_they_scale(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    """Finite differences with what the gates read of the input held at its value."""
    model, given, rows, step = pepnet(generator), make_inputs(3), 3, 1e-6
    x, vectors = given.x_BX.numpy(), given.vectors_SBFD[0].numpy()
    held = (x, pepnet_reference(model, vectors[:, 2], vectors[:, [1, 0]].reshape(rows, -1), x)[1])

    def total(moved_x: np.ndarray, moved: np.ndarray) -> float:
        prior = moved[:, [1, 0]].reshape(rows, -1)
        return float(pepnet_reference(model, moved[:, 2], prior, moved_x, held)[0].sum())

    x_SBX, vectors_SBFD = given.x_SBX.requires_grad_(), given.vectors_SBFD.requires_grad_()
    model(Inputs(x_SBX, vectors_SBFD, given.dense_BQ)).sum().backward()
    for grad, at, value in (
        (x_SBX.grad[0], x, lambda moved: total(moved, vectors)),
        (vectors_SBFD.grad[0], vectors, lambda moved: total(x, moved)),
    ):
        found = np.zeros_like(at)
        for place in np.ndindex(*at.shape):
            there = np.zeros_like(at)
            there[place] = step
            found[place] = (value(at + there) - value(at - there)) / (2 * step)
        np.testing.assert_allclose(grad, found, rtol=1e-6, atol=1e-7)
        assert grad.any()


def test_pepnets_towers_and_their_gates_are_the_heads_own(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    """By network and head: the embeddings' gate and the first layer of each gate serve all."""
    moved = reach(pepnet(generator), make_inputs(20))
    own, everyone = np.eye(K, dtype=bool), np.ones((K, K), dtype=bool)
    for name, width, declared in (
        ("embedding_gate.hidden.weights.0", 6, everyone[:1]),
        ("layer_gates.hidden.weights.0", 6, everyone[:2]),
        ("layers.0.weights.0", 5, own),
        ("layers.1.weights.0", 4, own),
        ("weight_HO1", 1, own),
    ):
        np.testing.assert_array_equal(by_unit(moved[name], width), declared, err_msg=name)
    for number, width in ((0, 5), (1, 4)):
        second = [m.unsqueeze(0) for m in moved[f"layer_gates.weights.{number}"]]
        np.testing.assert_array_equal(by_unit(second, width), own, err_msg=f"layer gate {number}")


def test_pepnet_refuses_what_it_cannot_build(generator: torch.Generator) -> None:
    for changed, told in (
        ({"layers": ()}, "hidden layer"),
        ({"gate": 0}, "one unit"),
        ({"priors": ("tab",)}, "tab"),
    ):
        with pytest.raises(ValueError, match=told):
            pepnet(generator, **changed)
