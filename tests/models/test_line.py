"""A line repeats, resumes and refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from features.funnel import Funnel
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.balancing.uncertainty import Uncertainty
from models.batch import Batch, InputSpec
from models.checkpoint import load, save
from models.entire_space.base import EntireSpace, Labels, Term
from models.entire_space.division import Division
from models.entire_space.esmm import ESMM
from models.finite import NotFinite
from models.line import Line, StateMismatch
from models.ple import PLE
from models.single_task import SingleTask
from models.train import train_one_pass


def log_probabilities(line: Line, batch: Batch) -> tuple[Tensor, Tensor]:
    found = line.predict(batch)
    return found.conditional_BJ, found.joint_BJ


def copied(line: Line) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in line.state().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def days(make_batch: Callable[..., Batch], count: int) -> list[Batch]:
    return [make_batch(32, seed) for seed in range(count)]


@pytest.mark.side_by_side
def test_same_seed_gives_the_same_bytes(
    architecture_class: Callable[..., Architecture],
    balancer_class: Callable[..., Balancer],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
) -> None:
    one, other = (make_line(architecture=architecture_class, balancer=balancer_class) for _ in range(2))
    for line in (one, other):
        train_one_pass(line, days(make_batch, 3))
    assert differing(copied(one), copied(other)) == []
    assert one.steps == 3


def test_another_seed_gives_other_weights_and_another_network_the_same_embeddings(
    make_line: Callable[..., Line],
) -> None:
    line, other, deeper = make_line(), make_line(seed=8), make_line(architecture=PLE)
    assert not torch.equal(line.embedding.weight_RD, other.embedding.weight_RD)
    assert torch.equal(line.embedding.weight_RD, deeper.embedding.weight_RD)


@pytest.mark.side_by_side
def test_save_load_continue_equals_uninterrupted_training(
    architecture_class: Callable[..., Architecture],
    balancer_class: Callable[..., Balancer],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    tmp_path: Path,
) -> None:
    make = partial(make_line, architecture=architecture_class, balancer=balancer_class, weight_decay=0.1)
    batches = days(make_batch, 6)
    undisturbed = make()
    train_one_pass(undisturbed, batches)

    first_day = make()
    train_one_pass(first_day, batches[:3])
    save(tmp_path / "day1", first_day.state(), {"day": 1})
    second_day = make(seed=99)
    second_day.restore(load(tmp_path / "day1")[0])
    train_one_pass(second_day, batches[3:])
    assert differing(copied(second_day), copied(undisturbed)) == []


def test_a_fresh_line_has_the_names_of_a_trained_one(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line(balancer=Uncertainty)
    names = set(line.state())
    line.learn(make_batch())
    assert set(line.state()) == names
    assert len(differing(copied(line), copied(make_line(balancer=Uncertainty)))) == len(names)


def test_restore_names_everything_that_does_not_fit(make_line: Callable[..., Line]) -> None:
    line = make_line()
    before, state = copied(line), copied(make_line(seed=8))
    del state["embedding_optimizer.steps_R"]
    state["surplus"] = torch.zeros(1)
    state["embedding.weight_RD"] = torch.zeros(50, 5)
    state["steps"] = torch.zeros(())
    with pytest.raises(StateMismatch) as refused:
        line.restore(state)
    for part in (
        "missing embedding_optimizer.steps_R",
        "unexpected surplus",
        "embedding.weight_RD is (50, 5) torch.float32, expected (50, 4) torch.float32",
        "steps is () torch.float32, expected () torch.int64",
    ):
        assert part in str(refused.value)
    assert differing(copied(line), before) == []


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_changes_nothing_and_names_step_and_objective(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch], poison: float
) -> None:
    line = make_line(balancer=Uncertainty)
    line.learn(make_batch())
    before = copied(line)
    trains = np.zeros((4, 4), dtype=np.bool_)
    trains[:, 3] = True
    with pytest.raises(NotFinite, match=r"step 2: d \((nan|inf)\)\. No"):
        line.learn(make_batch(4, trains=trains, dense=np.full((4, 2), poison, dtype=np.float32)))
    assert differing(copied(line), before) == []


class SteepAtZero(EntireSpace):
    """A finite loss whose gradient is not."""

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> list[Term]:
        steep_BK = (logits_BH - logits_BH.detach()).sqrt()
        return [Term(name, k, steep_BK[:, k].sum()) for k, name in enumerate(funnel.names)]


def test_a_gradient_that_is_not_finite_changes_nothing(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line(method=SteepAtZero())
    before = copied(line)
    with pytest.raises(NotFinite, match=r"Gradient is not finite at step 1: .*architecture\.towers"):
        line.learn(make_batch())
    assert differing(copied(line), before) == []


def test_weights_decay_but_embeddings_and_balancers_do_not(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    plain, decayed = (make_line(balancer=Uncertainty, weight_decay=decay) for decay in (0.0, 0.5))
    for line in (plain, decayed):
        line.balancer.get_parameter("log_variance_K").data.fill_(0.5)
        line.learn(make_batch())
    changed = differing(
        {n: t for n, t in copied(plain).items() if "optimizer" not in n},
        {n: t for n, t in copied(decayed).items() if "optimizer" not in n},
    )
    assert changed
    assert all(name.startswith("network.") for name in changed)


def test_row_order_changes_the_step_by_rounding_only(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    arrays = make_batch(32)
    turned = Batch(**{name: value.flip(0) for name, value in vars(arrays).items() if value is not None})
    torch.testing.assert_close(make_line().learn(arrays), make_line().learn(turned))


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_one_row_and_one_class_can_be_learned_and_scored(
    architecture_class: Callable[..., Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    label: float,
    rows: int,
) -> None:
    line = make_line(architecture=architecture_class)
    batch = make_batch(rows, y=np.full((rows, 4), label, dtype=np.float32))
    assert torch.isfinite(line.learn(batch)).all()
    conditional, joint = log_probabilities(line, batch)
    assert conditional.shape == joint.shape == (rows, 4)


def test_a_line_may_have_dense_columns_only(funnel: Funnel, make_batch: Callable[..., Batch]) -> None:
    line = Line.fresh(
        InputSpec(num_rows=1, num_fields=0, num_dense=2),
        funnel,
        architecture=PLE,
        method=ESMM(),
        balancer=Uncertainty,
        dim=4,
        dense_rate=1e-4,
        embedding_rate=1e-2,
        seed=0,
    )
    nothing = np.zeros((16, 0), dtype=np.int64)
    batch = make_batch(16, 0, rows=nothing, bag_rows=nothing)
    first = line.learn(batch)
    assert line.learn(batch).sum() < first.sum()


def test_scoring_draws_nothing_and_changes_nothing(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line()
    before = copied(line)
    first, second = log_probabilities(line, make_batch()), log_probabilities(line, make_batch())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert differing(copied(line), before) == []


def test_narrow_products_stay_close_and_keep_wide_state(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    wide, narrow = make_line(method=ESMM()), make_line(method=ESMM(), products=torch.bfloat16)
    torch.testing.assert_close(narrow.learn(make_batch()), wide.learn(make_batch()), rtol=0.02, atol=0.02)
    assert {t.dtype for t in narrow.state().values()} == {t.dtype for t in wide.state().values()}


def test_rows_are_scored_with_the_running_average_of_the_network(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    """The average written out by hand beside three steps; training goes on from the weights themselves."""
    averaged, plain = make_line(averaging=0.2), make_line()
    average = {name: p.detach().clone() for name, p in plain.network.named_parameters()}
    for step in range(1, 4):
        for line in (averaged, plain):
            line.learn(make_batch(32, step))
        keep = min(0.2, (1 + step) / (10 + step))
        for name, p in plain.network.named_parameters():
            average[name] = keep * average[name] + (1 - keep) * p.detach()
    for mine, other in zip(averaged.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(mine, other)
    with torch.no_grad():
        for name, p in plain.network.named_parameters():
            p.copy_(average[name])
    new = make_batch(32, 9)
    torch.testing.assert_close(log_probabilities(averaged, new), log_probabilities(plain, new))


def test_the_average_is_part_of_the_state(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, again = make_line(averaging=0.9), make_line(averaging=0.9, seed=8)
    line.learn(make_batch(32, 1))
    again.restore(line.state())
    new = make_batch(32, 2)
    assert torch.equal(log_probabilities(line, new)[1], log_probabilities(again, new)[1])


def test_reset_rows_are_those_of_a_fresh_line_and_nothing_else_changes(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, fresh = make_line(averaging=0.5), make_line(averaging=0.5)
    for batch in days(make_batch, 3):
        line.learn(batch)
    before, rows = copied(line), torch.tensor([3, 40])
    assert not torch.equal(before["embedding.weight_RD"][rows], fresh.embedding.weight_RD[rows])
    line.reset_rows(rows, 7)
    changed = differing(copied(line), before)
    tables = [name for name in before if name.startswith("embedding")]
    assert sorted(changed) == sorted(tables)
    others = [row for row in range(50) if row not in (3, 40)]
    for name in tables:
        assert torch.equal(line.state()[name][rows], fresh.state()[name][rows])
        assert torch.equal(line.state()[name][others], before[name][others])


def test_a_row_that_was_never_trained_and_no_row_at_all_leave_every_byte(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line = make_line()
    small = np.full((4, 3), 5, dtype=np.int64)
    line.learn(make_batch(4, rows=small, bag_rows=np.zeros((4, 6), dtype=np.int64)))
    before = copied(line)
    line.reset_rows(torch.tensor([row for row in range(50) if row != 5]), 7)
    line.reset_rows(torch.tensor([], dtype=torch.int64), 7)
    assert differing(copied(line), before) == []


def test_a_network_with_spaces_of_its_own_trains_each_on_its_objective_alone(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    """ESMM-NS: rows that train the first objective alone leave the vectors of the others as they were."""
    line = make_line(architecture=SingleTask, method=Division())
    before = line.embedding.weight_RD.clone()
    assert before.shape == (50, 4 * 4)
    trains = np.zeros((16, 4), dtype=np.bool_)
    trains[:, 0] = True
    line.learn(make_batch(16, 0, trains=trains))
    moved_S = (line.embedding.weight_RD != before).view(50, 4, 4).any(dim=2).any(dim=0)
    assert moved_S.tolist() == [True, False, False, False]
