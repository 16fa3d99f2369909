"""What one line takes over from another: what the map names, to the bit, or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.batch import Batch
from models.handover import Handover, take_over
from models.line import Line, StateMismatch
from models.ple import PLE
from models.train import train_one_pass


def copied(line: Line) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in line.state().items()}


@pytest.fixture
def given(make_line: Callable[..., Line], make_batch: Callable[..., Batch]) -> dict[str, Tensor]:
    """A line after a day of learning."""
    line = make_line()
    train_one_pass(line, [make_batch(32, seed) for seed in range(3)])
    return copied(line)


def test_what_the_map_names_comes_to_the_bit_and_the_rest_stays(
    make_line: Callable[..., Line], given: dict[str, Tensor]
) -> None:
    line = make_line(architecture=PLE, seed=8)
    before = copied(line)
    taken = take_over(
        line, Handover(line="any", take=(("embedding.", "embedding."), ("embedding_optimizer.",) * 2)), given
    )
    assert set(taken) == {name for name in before if name.startswith(("embedding.", "embedding_optimizer."))}
    for name, tensor in line.state().items():
        assert torch.equal(tensor, given[name] if name in taken else before[name])
    assert not torch.equal(before["embedding.weight_RD"], given["embedding.weight_RD"])


def test_names_may_differ_where_the_map_says_so(
    make_line: Callable[..., Line], given: dict[str, Tensor]
) -> None:
    """A tower of another objective begins with what one has learned."""
    line = make_line(seed=8)
    own = next(name for name in line.state() if name.startswith("network.") and name in given)
    renamed = {f"was.{own.removeprefix('network.')}": given[own]}
    assert take_over(
        line, Handover(line="any", take=((own, f"was.{own.removeprefix('network.')}"),)), renamed
    )
    assert torch.equal(line.state()[own], given[own])


def test_a_map_that_does_not_fit_is_refused_with_every_difference_and_takes_nothing(
    make_line: Callable[..., Line], given: dict[str, Tensor]
) -> None:
    line = make_line(architecture=PLE, seed=8)
    before = copied(line)
    wider = given | {"embedding.weight_RD": torch.zeros(3, 2)}
    take = (("embedding.", "embedding."), ("network.", "network."), ("nothing.", "steps"), ("steps", "steps"))
    with pytest.raises(StateMismatch) as told:
        take_over(line, Handover(line="any", take=(*take, ("steps", "steps"))), wider)
    text = str(told.value)
    own, theirs = ({name for name in state if name.startswith("network.")} for state in (line.state(), given))
    assert own != theirs
    for name in own - theirs:
        assert f"{name} has no {name} there" in text
    for name in theirs - own:
        assert f"{name} has no {name} here" in text
    assert "embedding.weight_RD is (3, 2) torch.float32, embedding.weight_RD is (" in text
    assert "nothing here begins with 'nothing.'" in text
    assert "steps is taken twice" in text
    assert all(torch.equal(tensor, before[name]) for name, tensor in line.state().items())


def test_a_map_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="takes nothing"):
        Handover(line="any", take=())
