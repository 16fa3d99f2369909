"""Networks that share in other ways: what they compute, and who reaches what, against references by loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks_by_hand import (
    ENTRY,
    HEADS,
    K,
    assert_shared_is_declared,
    drawn,
    fuse,
    inputs,
    network_of,
    reach,
    reached,
    read,
    tower_of,
)

from models.architecture import Architecture
from models.asymmetric import Asymmetric
from models.cross_stitch import CrossStitch
from models.customized import Customized
from models.heads import Heads
from models.inputs import Inputs
from models.ml_mmoe import MLMMoE
from models.mmoe import MMoE
from models.shared_bottom import SharedBottom


def test_every_objective_reaches_the_last_shared_layer(
    architecture_class: Callable[..., Architecture],
    make_network: Callable[..., Architecture],
    make_inputs: Callable[..., Inputs],
    generator: torch.Generator,
) -> None:
    """Also where a method adds a head: GradNorm would see no gradient of an objective that does not."""
    for heads in (Heads((None, 0, 0), 3), Heads((None, 0, 1, 0), 3)):
        model = drawn(make_network(architecture_class, heads, generator))
        if (last := model.last_shared()) is not None:
            name = next(name for name, parameter in model.named_parameters() if parameter is last)
            assert all(reached(model, make_inputs(20, model.spaces(heads)))[name][: heads.num_objectives])


@pytest.mark.parametrize(
    "towers", [((0, 1), (2,)), ((2, 0),), ((3, 1), (2, 0)), ((0, 1, 2),), ((0,), (1, 2, 3))]
)
def test_heads_share_the_hidden_layers_of_a_tower_and_not_its_last(
    generator: torch.Generator, towers: tuple[tuple[int, ...], ...]
) -> None:
    """Four heads, of which a method added the last; who is not named stands alone."""
    model = drawn(
        SharedBottom(
            ENTRY, Heads((None,) * 4, 3), bottom=(6, 4), layers=(5, 3), towers=towers, generator=generator
        )
    )
    bottom = network_of(model.bottom, 0, inputs().numpy())
    several = [tower for tower in towers if len(tower) > 1]
    together = [h for tower in several for h in tower]
    for h in range(4):
        if h in together:
            part, place = model.joint, together.index(h)
            hidden = network_of(part.hidden, [h in tower for tower in several].index(True), bottom)
        else:
            part, place = model.towers, [g for g in range(4) if g not in together].index(h)
            hidden = network_of(part.hidden, place, bottom)
        expected = hidden @ part.weight_KO1[place].detach().numpy() + part.bias_K11[place].detach().numpy()
        np.testing.assert_allclose(model(read())[:, h].detach(), expected[:, 0], rtol=1e-10)
    assert_shared_is_declared(model)
    one = model.joint.hidden if towers == ((0, 1, 2),) else model.bottom
    assert model.last_shared() is one.weights[-1]


@pytest.mark.parametrize("towers", [((0, 1), (1, 2)), ((0, 3),), ((0, 1), ()), ((-1, 0),)])
def test_heads_in_two_towers_or_in_none_that_exists_are_refused(
    generator: torch.Generator, towers: tuple[tuple[int, ...], ...]
) -> None:
    with pytest.raises(ValueError, match="heads are 0 to 2, got"):
        SharedBottom(ENTRY, HEADS, towers=towers, generator=generator)


FOUR = Heads((None, 0, 1, 0), 3)


@pytest.mark.parametrize(
    ("told", "reads"),
    [
        ((), [[], [0], [0, 1], [0, 1, 2]]),
        (((), (0,), (0,)), [[], [0], [0], [0, 1, 2]]),
        (((), (0,), (0,), ()), [[], [0], [0], []]),  # the head of the method alone does not read the click
        (((2,), (), (1,), ()), [[2], [], [1], []]),
        (((), (), (), ()), [[], [], [], []]),
    ],
)
def test_asymmetric_towers_read_the_bottoms_that_are_lent_to_them(
    generator: torch.Generator, told: tuple[tuple[int, ...], ...], reads: list[list[int]]
) -> None:
    """The funnel of three objectives and one head of a method, or the relation that the recipe tells."""
    model = drawn(Asymmetric(ENTRY, FOUR, bottom=(6, 4), layers=(3,), reads=told, generator=generator))
    lent = sorted({g for read in reads for g in read})
    kept = [h for h in range(4) if h not in lent]
    x, bottoms = inputs().numpy(), {}
    for part, those in ((model.lent, lent), (model.kept, kept)):
        assert (part is None) == (not those)
        bottoms |= {h: network_of(part, place, x) for place, h in enumerate(those)}
    expected = [
        tower_of(model.towers[h], 0, np.concatenate([bottoms[g] for g in (h, *reads[h])], axis=1))
        for h in range(4)
    ]
    np.testing.assert_allclose(model(read()).detach(), np.stack(expected, axis=1), rtol=1e-9)
    assert_shared_is_declared(model)
    by_all = any(all(g in (h, *reads[h]) for h in range(3)) for g in range(4))
    assert (model.last_shared() is None) == (not by_all)


def test_asymmetric_bottoms_are_moved_by_those_who_read_them_and_by_no_other(
    generator: torch.Generator,
) -> None:
    model = drawn(Asymmetric(ENTRY, FOUR, bottom=(6,), layers=(3,), generator=generator))
    moved = reach(model)
    first = [m[0].T.reshape(3, 6, -1) for m in moved["lent.weights.0"]]
    found = [[bool(first[h][g].any()) for h in range(4)] for g in range(3)]
    assert found == [[True] * 4, [False, True, True, True], [False, False, True, True]]
    assert reached(model)["kept.weights.0"] == [False, False, False, True]
    for h in range(4):
        assert reached(model)[f"towers.{h}.weight_KO1"] == [g == h for g in range(4)]


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        (((0,),), "head 0 must read others"),
        (((), (3,)), "head 1 must read others"),
        (((), (0, 0)), "head 1 must read others"),
        (((1,), (0,)), "read each other"),
        (((2,),), "read each other"),  # the last reads all before it unless told otherwise
        (((),) * 4, "told for 4 heads, and there are 3"),
    ],
)
def test_relations_that_are_not_asymmetric_are_refused(
    generator: torch.Generator, reads: tuple[tuple[int, ...], ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Asymmetric(ENTRY, HEADS, reads=reads, generator=generator)


def test_customized_towers_read_their_own_bottom_beside_the_shared_one(generator: torch.Generator) -> None:
    model = drawn(Customized(ENTRY, HEADS, own=(6, 4), shared=(7, 2), layers=(3,), generator=generator))
    x = inputs().numpy()
    shared = network_of(model.shared, 0, x)
    expected = [
        tower_of(model.towers, k, np.concatenate([network_of(model.own, k, x), shared], axis=1))
        for k in range(K)
    ]
    np.testing.assert_allclose(model(read()).detach(), np.stack(expected, axis=1), rtol=1e-9)
    assert_shared_is_declared(model)
    first = [m[0].T.reshape(K, 6, -1) for m in reach(model)["own.weights.0"]]
    found = np.array([[bool(first[k][e].any()) for k in range(K)] for e in range(K)])
    np.testing.assert_array_equal(found, np.eye(K, dtype=bool))


@pytest.mark.parametrize("stitched", [(6,), (6, 4, 5)])
def test_cross_stitch_mixes_the_activations_of_all_heads_after_every_layer(
    generator: torch.Generator, stitched: tuple[int, ...]
) -> None:
    """The paper's equation 1, head by head, row by row."""
    model = drawn(CrossStitch(ENTRY, HEADS, stitched=stitched, layers=(3,), generator=generator))
    per_row = []
    for x in inputs().numpy():
        s = [x[None]] * K
        for level, unit in zip(model.levels, model.units, strict=True):
            a = [network_of(level, k, s[k]) for k in range(K)]
            s = [sum(unit[k, g].item() * a[g] for g in range(K)) for k in range(K)]
        per_row.append([tower_of(model.towers, k, s[k])[0] for k in range(K)])
    np.testing.assert_allclose(model(read()).detach(), np.array(per_row), rtol=1e-9)
    assert_shared_is_declared(model)
    for k, moved in enumerate(reach(model)[f"units.{len(stitched) - 1}"]):
        np.testing.assert_array_equal(moved, [[row == k] * K for row in range(K)])


def test_cross_stitch_units_that_keep_their_own_separate_the_networks(generator: torch.Generator) -> None:
    """The identity is one end of what a unit can learn; it starts as a convex combination near it."""
    model = CrossStitch(ENTRY, HEADS, stitched=(6, 4), layers=(3,), generator=generator)
    for unit in model.units:
        torch.testing.assert_close(unit.data, torch.full((K, K), 0.05).fill_diagonal_(0.9))
    drawn(model)
    for unit in model.units:
        unit.data = torch.eye(K).double()
    moved = reach(model)
    for name in ("levels.0.weights.0", "levels.1.weights.0"):
        by_network = [m.transpose(1, 2).reshape(K, -1) for m in moved[name]]
        found = np.array([[bool(by_network[k][g].any()) for k in range(K)] for g in range(K)])
        np.testing.assert_array_equal(found, np.eye(K, dtype=bool))
    alone = CrossStitch(ENTRY, Heads.free(1), stitched=(6,), generator=generator)
    assert alone.units[0].tolist() == [[1.0]]


@pytest.mark.parametrize(("stitched", "same"), [((), 0.9), ((4,), 1.5), ((4,), -0.1)])
def test_cross_stitch_without_layers_or_with_a_start_that_is_no_mixture_is_refused(
    generator: torch.Generator, stitched: tuple[int, ...], same: float
) -> None:
    with pytest.raises(ValueError, match="CrossStitch needs a layer"):
        CrossStitch(ENTRY, HEADS, stitched=stitched, same=same, generator=generator)


TWO_LEVELS, THREE_LEVELS = ((6,), (4,)), ((6, 4), (5,), (4, 3))


@pytest.mark.parametrize("levels", [((6, 4),), TWO_LEVELS, THREE_LEVELS])
def test_multi_level_mmoe_feeds_every_expert_a_mixture_of_those_below(
    generator: torch.Generator, levels: tuple[tuple[int, ...], ...]
) -> None:
    """All gates read the input of the network, also those of higher levels."""
    model = drawn(MLMMoE(ENTRY, HEADS, levels=levels, experts=2, layers=(3,), generator=generator))
    x = inputs().numpy()
    below = [x, x]
    for level, gates in zip(model.levels, model.gates, strict=True):
        experts = [network_of(level, e, below[e]) for e in range(2)]
        below = [fuse(gate, x, experts) for gate in gates]
    expected = np.stack([tower_of(model.towers, k, below[k]) for k in range(K)], axis=1)
    np.testing.assert_allclose(model(read()).detach(), expected, rtol=1e-9)
    assert_shared_is_declared(model)


def test_multi_level_mmoe_shares_all_but_the_last_gates_and_the_towers(generator: torch.Generator) -> None:
    model = drawn(MLMMoE(ENTRY, HEADS, levels=THREE_LEVELS, experts=2, layers=(3,), generator=generator))
    moved = reached(model)
    for j in range(3):
        assert moved[f"levels.{j}.weights.0"] == [True] * K
    for j, gate in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert moved[f"gates.{j}.{gate}.weight_EI"] == [True] * K
    for k in range(K):
        assert moved[f"gates.2.{k}.weight_EI"] == [g == k for g in range(K)]


def test_multi_level_mmoe_of_one_level_is_mmoe() -> None:
    one, plain = (
        cls(ENTRY, HEADS, experts=3, layers=(3,), generator=torch.Generator().manual_seed(3), **settings)
        for cls, settings in ((MLMMoE, {"levels": ((6, 4),)}), (MMoE, {"expert": (6, 4)}))
    )
    torch.testing.assert_close(one.double()(read()), plain.double()(read()), rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [{"levels": ()}, {"experts": 0}])
def test_multi_level_mmoe_without_levels_or_experts_is_refused(
    generator: torch.Generator, wrong: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="at least one level and one expert"):
        MLMMoE(ENTRY, HEADS, generator=generator, **wrong)
