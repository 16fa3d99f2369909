"""Feature interactions against their equations, and below any network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

from models.batch import Batch
from models.inputs import Entry, Inputs
from models.interaction.base import Interaction
from models.interaction.cross import Cross
from models.interaction.factorization import Factorization
from models.line import Line
from models.single_task import SingleTask
from models.train import train_one_pass

FIELDS = ("user", "item", "scene")


def test_cross_multiplies_the_input_with_itself_layer_by_layer(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    cross = Cross(Entry(7, 2, FIELDS, 1, spaces=2), 4, layers=2, generator=generator).double()
    for bias in cross.biases:
        bias.data.normal_(generator=generator)
    given = make_inputs(9, 2)
    found, term = cross(given.vectors_SBFD, given.dense_BQ)
    for space in range(2):
        first = x = given.x_SBX[space].numpy()
        for weight, bias in zip(cross.weights, cross.biases, strict=True):
            x = first * (x @ weight[space].detach().numpy() + bias[space].detach().numpy()) + x
        np.testing.assert_allclose(found[space].detach(), x, rtol=1e-10)
    assert term is None
    with pytest.raises(ValueError, match="at least one layer"):
        Cross(Entry(7, 2, FIELDS, 1), 4, layers=0, generator=generator)


def test_factorization_adds_the_products_of_all_pairs(
    make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    machine = Factorization(Entry(7, 2, FIELDS, 1), 2, generator=generator).double()
    machine.weight_H.data = torch.tensor([1.0, -0.5], dtype=torch.float64)
    given = make_inputs(9)
    x_SBX, term_BH = machine(given.vectors_SBFD, given.dense_BQ)
    vectors = given.vectors_SBFD[0].numpy()
    pairs = [sum(row[i] @ row[j] for i, j in combinations(range(3), 2)) for row in vectors]
    np.testing.assert_allclose(term_BH.detach(), np.outer(pairs, [1.0, -0.5]), rtol=1e-10)
    assert torch.equal(x_SBX, given.x_SBX)


def test_every_interaction_learns_below_a_network_with_spaces_of_its_own(
    interaction_class: type[Interaction], make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line(interaction=interaction_class, architecture=partial(SingleTask, layers=(8,)))
    before = {name: p.detach().clone() for name, p in line.network.named_parameters()}
    train_one_pass(line, [make_batch(64)])
    assert [name for name, p in line.network.named_parameters() if torch.equal(before[name], p)] == []


def test_rows_do_not_see_each_other(
    interaction_class: type[Interaction], make_inputs: Callable[..., Inputs], generator: torch.Generator
) -> None:
    interaction = interaction_class(Entry(7, 2, FIELDS, 1), 2, generator=generator).double()
    whole = make_inputs(9)
    x_SBX, _ = interaction(whole.vectors_SBFD, whole.dense_BQ)
    one_SBX, _ = interaction(whole.vectors_SBFD[:, 4:5], whole.dense_BQ[4:5])
    torch.testing.assert_close(x_SBX[:, 4:5], one_SBX)
    assert x_SBX.shape[2] == interaction.width
