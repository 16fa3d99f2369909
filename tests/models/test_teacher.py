"""A method with a teacher needs nothing that the contract does not have: the teacher is heads of its own.

Shapes: B rows, K objectives, H heads (the teachers after the objectives).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from features.funnel import Funnel
from models.architecture import Architecture
from models.balancing.famo import FAMO
from models.batch import Batch
from models.choices import concrete
from models.entire_space.base import EntireSpace, Labels, Term, below, inside, mean, twins
from models.heads import Heads
from models.line import Line


class Distilled(EntireSpace):
    """A teacher learns what follows a click where there was one, a student everywhere, from it where not.

    The distillation of UKD (Xu et al., WWW 2022) without its adversary and its weights: pseudo-labels are
    those of the teacher, and they are held fixed.
    """

    detaches: ClassVar[bool] = True

    def heads(self, funnel: Funnel) -> Heads:
        """A student for every objective, then a teacher for each that is given another."""
        return twins(funnel)

    def counts(self, y_BK: Tensor, trains_BK: Tensor, funnel: Funnel) -> Tensor:
        """Every impression whose label is to be learned, bool, shape (B, K)."""
        return trains_BK

    def terms(self, logits_BH: Tensor, labels: Labels, funnel: Funnel) -> Sequence[Term]:
        """Labels teach the teachers, labels and teachers the students."""
        teachers = dict(zip(below(funnel), range(len(funnel), logits_BH.shape[1]), strict=True))
        terms = []
        for k, objective in enumerate(funnel):
            known_B = inside(labels.y_BK, labels.trains_BK, funnel, k)
            told_B = labels.known_BK[:, k]
            if k in teachers:
                taught = binary_cross_entropy_with_logits(logits_BH[:, teachers[k]], told_B, reduction="none")
                terms.append(Term(f"{objective.name}: teacher", k, mean(taught, known_B, labels.weight_B)))
                told_B = torch.where(known_B, told_B, logits_BH[:, teachers[k]].detach().sigmoid())
            learned = binary_cross_entropy_with_logits(logits_BH[:, k], told_B, reduction="none")
            counts_B = labels.trains_BK[:, k]
            terms.append(Term(f"{objective.name}: student", k, mean(learned, counts_B, labels.weight_B)))
        return terms


def entropy(y: float, logit: float) -> float:
    """Cross-entropy of a label with the probability of a logit."""
    return y * math.log1p(math.exp(-logit)) + (1 - y) * math.log1p(math.exp(logit))


def test_losses_are_those_of_the_equation(
    make_tree: Callable[..., Funnel], make_labels: Callable[..., np.ndarray]
) -> None:
    """Click, conversion given click, and its teacher, row by row in float64."""
    funnel, rng = make_tree(None, 0), np.random.default_rng(5)
    logits, y, weight = rng.normal(size=(40, 3)), make_labels(rng, 40, funnel), rng.uniform(0.5, 2, 40)
    trains = rng.random((40, 2)) < 0.8
    told = Labels(torch.from_numpy(y).double(), torch.from_numpy(trains), torch.from_numpy(weight))
    found = Distilled().losses(torch.from_numpy(logits), told, funnel)
    sums, weights = np.zeros(3), np.zeros(3)
    for n in range(40):
        clicked, taught = bool(y[n, 0]), 1 / (1 + math.exp(-logits[n, 2]))
        for h, (counts, label) in enumerate(
            (
                (trains[n, 0], y[n, 0]),
                (trains[n, 1], y[n, 1] if clicked else taught),
                (trains[n, 1] and clicked, y[n, 1]),
            )
        ):
            sums[h] += weight[n] * counts * entropy(float(label), logits[n, h])
            weights[h] += weight[n] * counts
    means = sums / weights
    np.testing.assert_allclose(found.numpy(), [means[0], means[1] + means[2]], rtol=1e-12)


def test_a_teacher_learns_nothing_from_its_student(
    make_tree: Callable[..., Funnel], make_labels: Callable[..., np.ndarray]
) -> None:
    funnel, rng = make_tree(None, 0, 0), np.random.default_rng(5)
    logits_BH = torch.from_numpy(rng.normal(size=(40, 5))).requires_grad_()
    y_BK = torch.from_numpy(make_labels(rng, 40, funnel)).double()
    told = Labels(y_BK, torch.ones(40, 3, dtype=torch.bool), torch.ones(40).double())
    reached = {}
    for term in Distilled().terms(logits_BH, told, funnel):
        (grad_BH,) = torch.autograd.grad(term.loss, logits_BH, retain_graph=True)
        reached[term.name] = grad_BH.any(dim=0).nonzero().flatten().tolist()
    assert reached == {
        "a: student": [0],
        "b: teacher": [3],
        "b: student": [1],
        "c: teacher": [4],
        "c: student": [2],
    }


@pytest.mark.parametrize("architecture", concrete(Architecture))
def test_every_architecture_learns_with_a_teacher_and_scores_with_the_students(
    architecture: type[Architecture],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
    funnel: Funnel,
) -> None:
    """With a second forward pass of every step, too (``FAMO``), and saved and read back on the way."""

    def fresh() -> Line:
        return make_line(architecture=architecture, method=Distilled(), balancer=FAMO)

    line, batch = fresh(), make_batch(64)
    before = {name: parameter.detach().clone() for name, parameter in line.network.named_parameters()}
    line.learn(batch)
    assert [n for n, p in line.network.named_parameters() if torch.equal(before[n], p)] == []
    restored = fresh()
    restored.restore(line.state())
    assert torch.equal(line.learn(batch), restored.learn(batch))
    said = line.predict(batch)
    assert said.joint_BJ.shape == (64, len(funnel))
    assert (said.joint_BJ[:, 1] <= said.joint_BJ[:, 0]).all()
    assert torch.equal(said.joint_BJ, restored.predict(batch).joint_BJ)
