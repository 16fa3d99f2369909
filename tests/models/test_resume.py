"""What a pass writes down in its middle is all that it needs to go on, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.balancing.base import Balancer
from models.balancing.dwa import DWA
from models.balancing.famo import FAMO
from models.balancing.uncertainty import Uncertainty
from models.batch import Batch
from models.line import Line
from models.resume import Partial
from models.towers import Towers
from models.train import Progress, TrainReport, go_on

BOUND = {"key": "a"}


class Noisy(Towers):
    """Towers whose logits are dropped out, at every call: the network draws from torch's own generator."""

    def forward(self, inputs: object) -> Tensor:
        """Logits, some of them 0."""
        logits_BH: Tensor = torch.nn.functional.dropout(super().forward(inputs), 0.3)  # type: ignore[arg-type]
        return logits_BH


def undisturbed(line: Line, batches: list[Batch]) -> TrainReport:
    torch.manual_seed(3)
    return go_on(line, batches, Progress.none(4)).report(line)


def killed_at(place: int, kept: Partial, line: Line, batches: list[Batch]) -> None:
    """Learn up to a batch, writing down as the interval says, and forget everything."""
    torch.manual_seed(3)
    go_on(line, batches[:place], kept.restore(line), lambda done: kept.keep(line, done))
    torch.manual_seed(99)  # another process has drawn other numbers


@pytest.mark.parametrize("balancer", [DWA, FAMO, Uncertainty])
@pytest.mark.parametrize("every", [1, 20])
def test_a_pass_that_is_killed_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path,
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    balancer: type[Balancer],
    every: int,
) -> None:
    fresh = partial(make_line, architecture=partial(Noisy, layers=(8, 4)), balancer=balancer, averaging=0.9)
    batches = [make_batch(8, seed) for seed in range(6)]
    whole = fresh()
    told = undisturbed(whole, batches)
    for place in range(1, 7):
        kept = Partial(tmp_path / f"{place}", BOUND, every)
        killed_at(place, kept, fresh(), batches)
        line = fresh()
        torch.manual_seed(3)
        done = kept.restore(line)
        assert done.taken == line.steps == (place if every == 1 else place // 3 * 3)
        assert go_on(line, batches[done.taken :], done).report(line) == told
        assert line.state().keys() == whole.state().keys()
        assert all(torch.equal(line.state()[name], tensor) for name, tensor in whole.state().items())
        kept.discard()
    assert list(tmp_path.rglob("*")) == []


def test_a_state_of_other_inputs_is_never_used(
    tmp_path: Path, make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    killed_at(2, Partial(tmp_path / "p", BOUND, 1), make_line(), [make_batch(8, seed) for seed in range(2)])
    line, untouched = make_line(), make_line().state()
    assert Partial(tmp_path / "p", {"key": "b"}, 1).restore(line).taken == 0
    assert all(torch.equal(line.state()[name], tensor) for name, tensor in untouched.items())
    assert Partial(tmp_path / "p", BOUND, 1).restore(line).taken == 0  # it was removed


def test_a_damaged_state_is_no_state(
    tmp_path: Path, make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    kept = Partial(tmp_path / "p", BOUND, 1)
    killed_at(2, kept, make_line(), [make_batch(8, seed) for seed in range(2)])
    (state,) = (tmp_path / "p").glob("*/model.safetensors")
    state.write_bytes(state.read_bytes()[:-1])
    assert kept.restore(make_line()).taken == 0


def test_without_an_interval_nothing_is_written(
    tmp_path: Path, make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    killed_at(1, Partial(tmp_path / "p", BOUND, 0), make_line(), [make_batch(8)])
    assert not (tmp_path / "p").exists()
