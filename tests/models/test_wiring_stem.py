"""STEM, AdaTT and DBMTL: what they compute, by loops, and which experts and vectors each logit teaches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_wiring import (
    ENTRY,
    HEADS,
    LEVELS,
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

from models.adatt import AdaTT, FusionLevel
from models.blocks import Networks
from models.dbmtl import DBMTL
from models.gates import Gate
from models.heads import Heads
from models.inputs import Entry, Inputs
from models.stem import STEM

#: Heads by expert: an expert of its own teaches nobody else, or all.
ALONE, ALL = np.eye(K, dtype=bool), np.ones((K, K), dtype=bool)


def reached(experts: Networks, moved: list[torch.Tensor]) -> np.ndarray:
    """By side-by-side network and head, whether a weight of its first layer moves the logit."""
    count = experts.groups * experts.per_group
    by_head = [m.unflatten(2, (experts.per_group, -1)).transpose(1, 2).reshape(count, -1) for m in moved]
    return torch.stack([m.any(dim=1) for m in by_head], dim=1).numpy()


def stem(generator: torch.Generator, own: int = 2, shared: int = 2) -> STEM:
    entry = Entry(7, 2, ("a", "b", "c"), 1, spaces=STEM.spaces(HEADS))
    return drawn(STEM(entry, HEADS, own=own, shared=shared, expert=(6, 4), layers=(3,), generator=generator))


@pytest.mark.parametrize(("own", "shared"), [(1, 1), (2, 3)])
def test_stem_computes_the_papers_equations(
    make_inputs: Callable[..., Inputs], generator: torch.Generator, own: int, shared: int
) -> None:
    """A gate selects all experts: those of a head read its vectors, the shared ones the last space."""
    model, given = stem(generator, own, shared), make_inputs(40, K + 1)
    x = given.x_SBX.numpy()
    experts = [network_of(model.own_experts, k * own + e, x[k]) for k in range(K) for e in range(own)]
    experts += [network_of(model.shared_experts, e, x[K]) for e in range(shared)]
    fused = [fuse(model.gates[k], x[k] + x[K], experts) for k in range(K)]
    expected = np.stack([tower_of(model.towers, k, fused[k]) for k in range(K)], axis=1)
    np.testing.assert_allclose(model(given).detach(), expected, rtol=1e-9, atol=1e-12)


def test_stem_teaches_no_expert_and_no_vector_of_another_head(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    model, given = stem(generator), make_inputs(40, K + 1)
    moved = reach(model, given)
    own = reached(model.own_experts, moved["own_experts.weights.0"])
    np.testing.assert_array_equal(own, np.repeat(ALONE, 2, axis=0))
    assert reached(model.shared_experts, moved["shared_experts.weights.0"]).all()
    for h in range(K):
        rows = [m.any(dim=1).tolist() for m in moved[f"gates.{h}.weight_EI"]]
        assert rows == [[k == h] * len(rows[0]) for k in range(K)], "of all experts, for one head"
    given.x_SBX.requires_grad_()
    logits_BK = model(given)
    taught = [torch.autograd.grad(logits_BK[:, k].sum(), given.x_SBX, retain_graph=True)[0] for k in range(K)]
    spaces = np.array([[bool(grad_SBX[s].any()) for grad_SBX in taught] for s in range(K + 1)])
    np.testing.assert_array_equal(spaces, np.concatenate([ALONE, ALL[:1]]))
    assert_shared_is_declared(model, make_inputs(40, K + 1))


def test_stem_reads_the_vectors_of_every_head(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    model, given = stem(generator), make_inputs(40, K + 1)
    before_BK = model(given).detach()
    for space in range(K + 1):
        x_SBX = given.x_SBX.clone()
        x_SBX[space] += 0.5
        after_BK = model(Inputs(x_SBX, given.vectors_SBFD, given.dense_BQ)).detach()
        assert (after_BK != before_BK).any(dim=0).all()


def natives(level: FusionLevel, unit: int, count: int) -> np.ndarray:
    weight = level.native_HN[unit] if unit < K else level.native_1N[0]
    assert weight.shape == (count,)
    return weight.detach().numpy()


def adatt_reference(model: AdaTT, own: int, shared: int) -> np.ndarray:
    """The gated sum of all experts, and apart from it the residual: a linear sum of the unit's own."""
    units = [inputs().numpy()] * (K + 1)
    for depth, level in enumerate(model.levels):
        assert isinstance(level, FusionLevel)
        mine = [[network_of(level.own_experts, k * own + e, units[k]) for e in range(own)] for k in range(K)]
        if level.shared_experts is not None:
            mine.append([network_of(level.shared_experts, e, units[K]) for e in range(shared)])
        everyone = [expert for unit in mine for expert in unit]
        last = depth == len(model.levels) - 1
        fused = []
        for u in range(K if last else len(mine)):
            gate = level.gates[u]
            assert isinstance(gate, Gate)
            residual = sum(
                v * expert for v, expert in zip(natives(level, u, len(mine[u])), mine[u], strict=True)
            )
            fused.append(fuse(gate, units[u], everyone) + residual)
        units = fused
    return np.stack([tower_of(model.towers, k, units[k]) for k in range(K)], axis=1)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("own", "shared"), [(1, 0), (2, 0), (1, 1), (1, 2), (3, 1)])
def test_adatt_computes_the_papers_equations_and_teaches_what_they_say(
    generator: torch.Generator, levels: tuple[tuple[int, ...], ...], own: int, shared: int
) -> None:
    """Every expert of every level serves all heads; a gate and a residual of the last level serve one."""
    model = drawn(
        AdaTT(ENTRY, HEADS, levels=levels, own=own, shared=shared, layers=(6,), generator=generator)
    )
    np.testing.assert_allclose(
        model(read()).detach(), adatt_reference(model, own, shared), rtol=1e-9, atol=1e-12
    )
    moved = reach(model)
    for j, level in enumerate(model.levels):
        declared = ALONE if j == len(levels) - 1 else ALL
        for name in ["own_experts", "shared_experts"][: 1 + (shared > 0)]:
            assert reached(getattr(level, name), moved[f"levels.{j}.{name}.weights.0"]).all(), (j, name)
        for h in range(K):
            found = [bool(m.any()) for m in moved[f"levels.{j}.gates.{h}.weight_EI"]]
            assert found == declared[h].tolist(), (j, h)
        assert (f"levels.{j}.native_HN" in moved) == (own > 1), "one expert is the residual as it is"
        for k, m in enumerate(moved.get(f"levels.{j}.native_HN", [])):
            assert m.any(dim=1).tolist() == declared[:, k].tolist()
    assert f"levels.{len(levels) - 1}.native_1N" not in moved, (
        "nothing reads the shared unit of the last level"
    )
    assert_shared_is_declared(model)


def test_adatt_adds_an_only_expert_whatever_the_gate_says(generator: torch.Generator) -> None:
    level = FusionLevel(
        *(5, K, (4,)),
        own=1,
        shared=1,
        same_input=True,
        last=False,
        expert_dropout=0.0,
        generator=generator,
    ).double()
    own_HBO = level.own_experts(inputs().unsqueeze(0))
    shared_1BO = level.shared_experts(inputs().unsqueeze(0))
    experts = torch.cat((own_HBO, shared_1BO))
    # gates begin with equal weights
    expected = (experts.mean(dim=0) + experts).detach()
    np.testing.assert_allclose(level(inputs().unsqueeze(0)).detach(), expected, rtol=1e-12)


def dbmtl_reference(model: DBMTL, heads: Heads) -> np.ndarray:
    bottom = network_of(model.bottom, 0, inputs().numpy())
    z: list[np.ndarray] = []
    logits = []
    for h, parent in enumerate(heads.parents):
        above = []
        while parent is not None:
            above.insert(0, parent)
            parent = heads.parents[parent]
        group = next(g for g, members in enumerate(model.groups) if h in members)
        place = model.groups[group].index(h)
        tower = network_of(model.towers[group], place, bottom)
        z.append(
            network_of(model.links[group], place, np.concatenate([tower, *(z[a] for a in above)], axis=1))
        )
        weight, bias = model.weight_HR1[h].detach().numpy(), model.bias_H11[h].detach().numpy()
        logits.append((z[h] @ weight + bias)[:, 0])
    return np.stack(logits, axis=1)


#: Click, conversion given click, like given click, refund given conversion, share; a chain; a single head.
FUNNELS = [Heads((None, 0, 0, 1, None), 5), Heads((None, 0, 1, 2), 3), Heads.free(3), Heads.free(1)]


@pytest.mark.parametrize("heads", FUNNELS, ids=str)
def test_dbmtl_links_a_head_to_all_that_are_above_it(generator: torch.Generator, heads: Heads) -> None:
    model = drawn(DBMTL(ENTRY, heads, bottom=(6, 5), layers=(6, 5), link=(6, 4), generator=generator))
    np.testing.assert_allclose(model(read()).detach(), dbmtl_reference(model, heads), rtol=1e-9, atol=1e-12)


def test_dbmtl_teaches_a_tower_what_its_head_and_those_below_ask(generator: torch.Generator) -> None:
    heads = FUNNELS[0]
    model = drawn(DBMTL(ENTRY, heads, bottom=(6, 5), layers=(6, 5), link=(6, 4), generator=generator))
    moved = reach(model)
    declared = np.array(
        [
            [1, 1, 1, 1, 0],  # click
            [0, 1, 0, 1, 0],  # conversion
            [0, 0, 1, 0, 0],  # like
            [0, 0, 0, 1, 0],  # refund
            [0, 0, 0, 0, 1],  # share
        ],
        dtype=bool,
    )
    for part, networks in (("towers", model.towers), ("links", model.links)):
        found = [reached(n, moved[f"{part}.{g}.weights.0"]) for g, n in enumerate(networks)]
        order = np.concatenate(model.groups)
        np.testing.assert_array_equal(np.concatenate(found), declared[order], err_msg=part)
    assert_shared_is_declared(model)


def test_dbmtl_runs_heads_that_are_alike_side_by_side(generator: torch.Generator) -> None:
    """Followed or not, and as many above: what several objectives reach is in weights of its own."""
    model = DBMTL(ENTRY, Heads((None, None, 0, 0, 1, None, 2), 7), generator=generator)
    assert sorted(map(sorted, model.groups)) == [[0, 1], [2], [3, 4], [5], [6]]


@pytest.mark.parametrize(
    ("architecture", "settings", "names"),
    [
        (STEM, {"own": 0}, "own=0, shared=1"),
        (STEM, {"shared": 0}, "own=1, shared=0"),
        (AdaTT, {"own": 0}, "own=0, shared=1"),
        (AdaTT, {"shared": -1}, "own=1, shared=-1"),
        (AdaTT, {"levels": ()}, r"levels=\(\)"),
    ],
)
def test_a_network_without_experts_is_refused_with_what_was_given(
    generator: torch.Generator, architecture: type[STEM] | type[AdaTT], settings: dict[str, int], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        architecture(ENTRY, HEADS, generator=generator, **settings)
