"""Which logit depends on which parameter, and what the networks compute, against references by loops."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
import torch
from networks_by_hand import (
    ENTRY,
    HEADS,
    WIDTH,
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

from models.aitm import AITM, Transfer
from models.architecture import Architecture
from models.blocks import Networks
from models.cgc import CGC
from models.gates import Gate, mix
from models.heads import Heads
from models.inputs import Entry, Inputs
from models.mmoe import MMoE
from models.ple import PLE, ExtractionLayer
from models.shared_bottom import SharedBottom
from models.single_task import SingleTask
from models.towers import Towers


def ple_reference(model: PLE, own: int, shared: int) -> np.ndarray:
    modules = [inputs().numpy()] * (K + 1)
    for level in model.levels:
        assert isinstance(level, ExtractionLayer)
        mine = [
            [network_of(level.own_experts, k * own + e, modules[k]) for e in range(own)] for k in range(K)
        ]
        common = [network_of(level.shared_experts, e, modules[K]) for e in range(shared)]
        fused = [fuse(level.own_gates[k], modules[k], mine[k] + common) for k in range(K)]
        if level.shared_gate is not None:
            fused.append(fuse(level.shared_gate, modules[K], [*chain.from_iterable(mine), *common]))
        modules = fused
    return np.stack([tower_of(model.towers, k, modules[k]) for k in range(K)], axis=1)


LEVELS = [((8,),), ((8,), (6,)), ((8, 6), (7,), (6, 8))]


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("own", "shared"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_ple_computes_the_papers_equations(
    generator: torch.Generator, levels: tuple[tuple[int, ...], ...], own: int, shared: int
) -> None:
    model = drawn(PLE(ENTRY, HEADS, levels=levels, own=own, shared=shared, layers=(6,), generator=generator))
    np.testing.assert_allclose(
        model(read()).detach(), ple_reference(model, own, shared), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("levels", LEVELS)
def test_ple_gates_reach_exactly_what_the_paper_declares(
    generator: torch.Generator, levels: tuple[tuple[int, ...], ...]
) -> None:
    """An own expert of the last level serves its objective alone; below, the shared gate serves all."""
    own, shared, depth = 2, 2, len(levels)
    moved = reach(
        drawn(PLE(ENTRY, HEADS, levels=levels, own=own, shared=shared, layers=(6,), generator=generator))
    )
    everyone, alone = (
        np.ones((K * own, K), dtype=bool),
        np.kron(np.eye(K, dtype=bool), np.ones((own, 1), dtype=bool)),
    )
    for j, level in enumerate(levels):
        for part, count, declared in (
            ("own_experts", K * own, alone if j == depth - 1 else everyone),
            ("shared_experts", shared, np.ones((shared, K), dtype=bool)),
        ):
            first = [
                m.transpose(1, 2).reshape(count, level[0], -1) for m in moved[f"levels.{j}.{part}.weights.0"]
            ]
            found = np.array([[bool(first[k][e].any()) for k in range(K)] for e in range(count)])
            np.testing.assert_array_equal(found, declared, err_msg=f"level {j} {part}")
        for gate in range(K):
            name = f"levels.{j}.own_gates.{gate}.weight_EI"
            found_gate = [bool(m.any()) for m in moved[name]]
            assert found_gate == ([True] * K if j < depth - 2 else [k == gate for k in range(K)]), name
        name = f"levels.{j}.shared_gate.weight_EI"
        assert (name in moved) == (j < depth - 1)
        assert all(m.any() for m in moved.get(name, []))


def test_a_gate_starts_with_equal_weights_and_always_sums_to_one() -> None:
    gate = Gate(WIDTH, 4).double()
    torch.testing.assert_close(gate(inputs()), torch.full((4, 40), 0.25).double())
    torch.testing.assert_close(drawn(gate)(inputs()).sum(dim=0), torch.ones(40).double())


def test_mix_of_one_expert_is_that_expert() -> None:
    x_BI = inputs()
    torch.testing.assert_close(mix(torch.ones(1, 40).double(), [x_BI]), x_BI)


def test_towers_share_nothing(generator: torch.Generator) -> None:
    model = drawn(Towers(ENTRY, HEADS, layers=(4, 3), generator=generator))
    expected = np.stack([tower_of(model.towers, k, inputs().numpy()) for k in range(K)], axis=1)
    np.testing.assert_allclose(model(read()).detach(), expected, rtol=1e-10)


def test_shared_bottom_is_one_network_under_all_towers(generator: torch.Generator) -> None:
    model = drawn(SharedBottom(ENTRY, HEADS, bottom=(6, 4), layers=(3,), generator=generator))
    bottom = network_of(model.bottom, 0, inputs().numpy())
    expected = np.stack([tower_of(model.towers, k, bottom) for k in range(K)], axis=1)
    np.testing.assert_allclose(model(read()).detach(), expected, rtol=1e-10)


def test_single_task_gives_every_objective_vectors_of_its_own(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    model = drawn(
        SingleTask(Entry(7, 2, ("a", "b", "c"), 1, spaces=K), HEADS, layers=(4, 3), generator=generator)
    )
    given = make_inputs(40, K)
    expected = [tower_of(model.towers, k, given.x_SBX[k].numpy()) for k in range(K)]
    np.testing.assert_allclose(model(given).detach(), np.stack(expected, axis=1), rtol=1e-10)


def transferred(step: Transfer, above: np.ndarray, own: np.ndarray) -> np.ndarray:
    """AITM row by row: softmax over two sources of scaled products, of values."""
    hand, bias, value, key, query = (
        p.detach().numpy() for p in (step.hand_AA, step.hand_A, step.value_AA, step.key_AA, step.query_AA)
    )
    rows = []
    for a, q in zip(np.maximum(above @ hand + bias, 0), own, strict=True):
        scores = np.exp([(u @ key) @ (u @ query) / np.sqrt(len(q)) for u in (a, q)])
        rows.append(sum(w * (u @ value) for w, u in zip(scores / scores.sum(), (a, q), strict=True)))
    return np.array(rows)


def test_aitm_hands_representations_down_the_funnel(generator: torch.Generator) -> None:
    """Click, conversion given click, like given click, refund given conversion."""
    heads = Heads((None, 0, 0, 1), 4)
    model = AITM(ENTRY, heads, layers=(6, 4), generator=generator).double()
    x = inputs().numpy()
    own = [network_of(network, 0, x) for network in model.networks]
    z = [own[0]]
    for h, parent in ((1, 0), (2, 0), (3, 1)):
        z.append(transferred(model.transfers[str(h)], z[parent], own[h]))
    weight, bias = model.weight_HA.detach().numpy(), model.bias_H.detach().numpy()
    expected = np.stack([z[h] @ weight[h] + bias[h] for h in range(4)], axis=1)
    np.testing.assert_allclose(model(read()).detach(), expected, rtol=1e-9, atol=1e-12)


def test_aitm_shares_the_networks_of_heads_that_others_follow(generator: torch.Generator) -> None:
    model = drawn(AITM(ENTRY, Heads((None, 0, 1), 3), layers=(6, 4), generator=generator))
    moved = reach(model)
    reached = {name: [bool(m.any()) for m in by_head] for name, by_head in moved.items()}
    assert reached["networks.0.weights.0"] == [True, True, True]
    assert reached["networks.1.weights.0"] == [False, True, True]
    assert reached["networks.2.weights.0"] == [False, False, True]
    assert reached["transfers.1.value_AA"] == [False, True, True]
    assert reached["transfers.2.value_AA"] == [False, False, True]
    assert_shared_is_declared(model)


@pytest.mark.parametrize("one_gate", [False, True])
@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_mmoe_computes_the_papers_equations(
    generator: torch.Generator, one_gate: bool, hidden: tuple[int, ...]
) -> None:
    settings = {"experts": 3, "expert": (6, 4), "layers": (3,), "one_gate": one_gate, "gate": hidden}
    model = drawn(MMoE(ENTRY, HEADS, **settings, generator=generator))
    x = inputs().numpy()
    experts = [network_of(model.experts, e, x) for e in range(3)]
    gates = [0] * K if one_gate else range(K)
    reads = [network_of(model.selectors, g, x) if hidden else x for g in gates]
    mixed = [fuse(model.gates[g], selector, experts) for g, selector in zip(gates, reads, strict=True)]
    expected = np.stack([tower_of(model.towers, k, mixed[k]) for k in range(K)], axis=1)
    np.testing.assert_allclose(model(read()).detach(), expected, rtol=1e-9)
    assert_shared_is_declared(model)


def test_hidden_layers_of_a_gate_belong_to_their_objective(generator: torch.Generator) -> None:
    moved = reach(drawn(MMoE(ENTRY, HEADS, experts=2, expert=(6,), gate=(4,), generator=generator)))
    by_gate = [m[0].T.reshape(K, -1) for m in moved["selectors.weights.0"]]
    found = np.array([[bool(by_gate[k][g].any()) for k in range(K)] for g in range(K)])
    np.testing.assert_array_equal(found, np.eye(K, dtype=bool))


def test_mmoe_without_experts_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="at least one expert"):
        MMoE(ENTRY, HEADS, experts=0, generator=generator)


@pytest.mark.parametrize("levels", LEVELS)
def test_ple_names_its_shared_parameters(
    generator: torch.Generator, levels: tuple[tuple[int, ...], ...]
) -> None:
    assert_shared_is_declared(PLE(ENTRY, HEADS, levels=levels, own=2, shared=2, generator=generator))


def test_shared_parameters_are_those_that_several_objectives_reach(
    architecture_class: Callable[..., Architecture],
    make_network: Callable[..., Architecture],
    make_inputs: Callable[..., Inputs],
    generator: torch.Generator,
) -> None:
    model = make_network(architecture_class, HEADS, generator)
    assert_shared_is_declared(model, make_inputs(40, model.spaces(HEADS)))


@pytest.mark.parametrize(("own", "shared"), [(1, 1), (2, 3)])
def test_cgc_is_one_level_of_ple(generator: torch.Generator, own: int, shared: int) -> None:
    model = drawn(CGC(ENTRY, HEADS, expert=(8, 6), own=own, shared=shared, layers=(4,), generator=generator))
    np.testing.assert_allclose(
        model(read()).detach(), ple_reference(model, own, shared), rtol=1e-9, atol=1e-12
    )
    shares = {id(p): name for name, p in model.named_parameters()}
    assert {shares[id(p)].split(".")[2] for p in model.shared_parameters()} == {"shared_experts"}
    assert_shared_is_declared(model)


@pytest.mark.parametrize(("cls", "wrong"), [(PLE, {"shared": 0}), (PLE, {"levels": ()}), (CGC, {"own": 0})])
def test_ple_without_experts_or_levels_is_refused(
    generator: torch.Generator, cls: type[PLE], wrong: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=f"{cls.__name__} needs at least one level, one own and one shared"):
        cls(ENTRY, HEADS, generator=generator, **wrong)


def test_a_network_without_layers_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Networks(WIDTH, (), per_group=1, generator=generator)
