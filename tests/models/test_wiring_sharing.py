"""Networks that share in other ways: what they compute, and who reaches what, against references by loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks_by_hand import (
    ENTRY,
    HEADS,
    assert_shared_is_declared,
    drawn,
    inputs,
    network_of,
    reached,
    read,
)

from models.architecture import Architecture
from models.heads import Heads
from models.inputs import Inputs
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
