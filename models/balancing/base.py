"""The one contract of every balancer: K losses to one update.

Shapes: K objectives, B rows, P looked-up positions, D numbers per vector, R rows of the embedding table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from models.balancing.dense_adamw import DenseAdamW
from models.row_optimizer import RowOptimizer


@dataclass(frozen=True, eq=False)
class Leaves:
    """Where the gradients of a batch end.

    Attributes:
        vectors: embedding vectors of the batch, shape (B, P, D); every objective reaches them.
        shared: parameters of the network that several objectives reach. With ``vectors`` they are where
            gradients of objectives may be compared and edited: never the table, whose gradient per
            objective would be as large as the table.
        own: all other parameters of the network; an element of them serves one objective.
        last: weight of the last layer that all objectives read, one of ``shared``, or ``vectors``.
    """

    vectors: Tensor
    shared: tuple[Tensor, ...] = ()
    own: tuple[Tensor, ...] = ()
    last: Tensor | None = None


class Balancer(nn.Module, ABC):
    """Turns the losses of the objectives into one update.

    A balancer that only weighs losses implements ``forward``; one that edits gradients overrides
    ``backward``; one that changes the step itself overrides the optimisers. The training loop knows no
    balancer by name. Whatever a balancer learns or remembers is a parameter or a buffer, or state of its
    optimisers, so that it travels with the checkpoint. It is constructed as
    ``cls(num_objectives, num_shared, *, <flat settings>)``, where ``num_shared`` is the length of
    ``Leaves.shared``. Its docstring has the lines ``Equation:``, ``Source:``, ``Use:`` and ``Cost:``, from
    which ``docs/models.md`` is made.

    Attributes:
        second_pass: the losses of the batch are wanted again after the step, see ``after``.
        compares: gradients of the vectors are looked at position by position, not only added up by row.
    """

    second_pass: ClassVar[bool] = False
    compares: ClassVar[bool] = False

    def told(self, squared: Sequence[bool]) -> None:
        """Called before the first batch: which losses are squared errors; all others are cross-entropies.

        Most equations treat all losses alike and need not listen.

        Args:
            squared: one per objective, in the order of the funnel.
        """

    @abstractmethod
    def forward(self, losses_K: Tensor) -> Tensor:
        """Combine the losses, shape (K,), into a scalar."""

    def backward(self, losses_K: Tensor, leaves: Leaves) -> Tensor:
        """Fill ``.grad`` of every leaf that the losses reach.

        Args:
            losses_K: losses with their graph; exactly 0 where an objective had no row.
            leaves: where gradients end.

        Returns:
            The combined loss, without its graph, to be logged.
        """
        total = self(losses_K)
        total.backward()
        return total.detach()  # type: ignore[no-any-return]

    def on(self, device: torch.device) -> Self:
        """Itself, with what it holds where the losses are; called before the optimisers are made."""
        return self.to(device)

    def begin_day(self) -> None:
        """Called before the first batch of every pass over a day."""

    def after(self, losses_K: Tensor) -> None:
        """Called with the losses of the same batch after the step, without a graph."""

    def vectors_gradient(self, leaves: Leaves) -> Tensor | None:
        """What the row optimiser is given for the vectors: their gradient, shape (B, P, D)."""
        return leaves.vectors.grad

    def dense_optimizer(self, leaves: Leaves, *, rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """The optimiser of the network and of the balancer's own parameters, with its state made.

        Args:
            leaves: ``shared`` and ``own`` hold all parameters of the network.
            rate: step size.
            weight_decay: decoupled decay of the network; what a balancer learns does not decay.
        """
        optimizer = DenseAdamW(
            [
                {"params": [*leaves.shared, *leaves.own], "weight_decay": weight_decay},
                {"params": list(self.parameters()), "weight_decay": 0.0},
            ],
            lr=rate,
            fused=True,
        )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                # Adam would make it at the first gradient; a fresh line has all names of an old one
                optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                    "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
                }
        return optimizer

    def row_optimizer(
        self, build: Callable[..., RowOptimizer], weight_RD: Tensor, rate: float
    ) -> RowOptimizer:
        """The optimiser of the embedding table; ``build`` is the one that the recipe chose."""
        return build(weight_RD, rate=rate)


def gradients(loss: Tensor, leaves: Leaves) -> list[Tensor]:
    """Gradient of one loss with respect to ``[*shared, vectors, *own]``; zeros where it does not reach.

    The graph is kept, so that the next objective can be asked.
    """
    asked = [*leaves.shared, leaves.vectors, *leaves.own]
    found = torch.autograd.grad(loss, asked, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(asked, found, strict=True)]


def by_objective(losses_K: Tensor, leaves: Leaves) -> list[list[Tensor]]:
    """Gradients of every loss with respect to ``[*shared, vectors]``; own parameters get their ``.grad``.

    That is the sum over the objectives: an element of an own parameter serves one of them.
    """
    compared = len(leaves.shared) + 1
    found, own = [], [torch.zeros_like(leaf, requires_grad=False) for leaf in leaves.own]
    for loss in losses_K.unbind():
        grads = gradients(loss, leaves)
        found.append(grads[:compared])
        if own:
            torch._foreach_add_(own, grads[compared:])
    for leaf, grad in zip(leaves.own, own, strict=True):
        leaf.grad = grad
    return found


def weighted_sum(grads_K: Sequence[Tensor], weight_K: Sequence[float]) -> Tensor:
    """One gradient from K of the same shape, without a copy of each."""
    total = grads_K[0] * weight_K[0]
    for grad, weight in zip(grads_K[1:], weight_K[1:], strict=True):
        total.add_(grad, alpha=weight)
    return total
