"""One model line: network, losses, balancer and optimisers that are trained, saved and scored together.

Shapes: B rows, P looked-up positions, D numbers per vector, X input columns of the network, K objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from features.funnel import Funnel
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.batch import Batch, InputSpec
from models.embedding import PackedEmbedding, Read
from models.entire_space.base import EntireSpace, Labels
from models.entire_space.values import Objectives, Predictions
from models.finite import named_parameters, refuse_gradients, refuse_losses
from models.interaction.base import Interaction
from models.interaction.concatenate import Concatenate
from models.late.base import Late
from models.lazy_adam import LazyAdam
from models.lookup import How, Lookup, look_up
from models.network import Network
from models.recalibrate import sample_logits
from models.row_optimizer import RowOptimizer
from models.streams import generator


class StateMismatch(ValueError):
    """A state does not belong to this line; every offending name is listed and nothing was restored."""


class Line:
    """Everything that one recipe trains. Build it with ``Line.fresh``; continue it with ``restore``.

    Attributes:
        spec: layout of the batches.
        funnel: the objectives, in the order of every (B, K) tensor.
        objectives: how logits become losses and predictions; ``method`` does of the binary ones.
    """

    def __init__(
        self,
        spec: InputSpec,
        objectives: Objectives,
        *,
        embedding: PackedEmbedding,
        network: Network,
        balancer: Balancer,
        embedding_optimizer: RowOptimizer,
        dense_optimizer: torch.optim.Optimizer,
        averaging: float,
        products: torch.dtype,
        log_rates_K: Tensor,
    ) -> None:
        self.spec, self.objectives, self.products = spec, objectives, products
        self.funnel, self.method = objectives.funnel, objectives.method
        self.device = embedding.weight_RD.device
        self.embedding, self.network, self.balancer = embedding, network, balancer
        self.embedding_optimizer, self.dense_optimizer = embedding_optimizer, dense_optimizer
        self._averaging, self._log_rates_K = averaging, log_rates_K.to(self.device)
        self._average = {n: p.detach().clone() for n, p in network.named_parameters()} if averaging else {}
        self._steps = torch.zeros((), dtype=torch.int64)
        self._parameters = named_parameters({"network": network, "balancer": balancer})
        self._how = How.of(network, spec, products, self.device, compared=balancer.compares)

    @classmethod
    def fresh(
        cls,
        spec: InputSpec,
        funnel: Funnel,
        *,
        architecture: Callable[..., Architecture],
        method: EntireSpace,
        balancer: Callable[..., Balancer],
        interaction: Callable[..., Interaction] = Concatenate,
        embedding_optimizer: Callable[..., RowOptimizer] = LazyAdam,
        dim: int,
        dense_rate: float,
        embedding_rate: float,
        weight_decay: float = 0.0,
        averaging: float = 0.0,
        products: torch.dtype = torch.float32,
        negative_rates: Sequence[float] | None = None,
        late: Late | None = None,
        seed: int,
        device: torch.device | None = None,
    ) -> Self:
        """A line before its first step; the same arguments give the same bytes, on any device.

        Args:
            spec: layout of the batches.
            funnel: the objectives.
            architecture: an ``Architecture`` class, or a ``partial`` of one with its settings.
            method: how conditional logits of the binary objectives become losses.
            balancer: a ``Balancer`` class, or a ``partial`` of one with its settings.
            interaction: an ``Interaction`` class, or a ``partial`` of one with its settings.
            embedding_optimizer: a ``RowOptimizer`` class, or a ``partial`` of one with its settings.
            dim: numbers per embedding vector, in each space that the architecture reads.
            dense_rate: step size of Adam for the network and the balancer.
            embedding_rate: step size of the optimiser of the embedding table.
            weight_decay: decoupled decay (Loshchilov, Hutter, ICLR 2019) of the network's weights alone.
            averaging: share of the old average that a step keeps; rows are scored with this average of the
                network's weights, not of embeddings (Polyak, Juditsky, Acceleration of Stochastic
                Approximation by Averaging, 1992, in its exponential form). 0: with the weights themselves.
            products: dtype of the network's matrix products; ``torch.bfloat16`` about halves their time
                where the processor has it. Weights, losses and updates stay float32.
            negative_rates: rate at which the negatives of each objective are sampled, see ``recalibrate``;
                logits and probabilities are always those of the logs. ``None`` where nothing is sampled.
            late: what is made of labels that could still change; waits if absent.
            seed: decides every initial value. Each part draws from its own stream, so that another
                network starts from the same embeddings.
            device: where it learns and predicts; the processor if absent. Batches are moved there, and
                what is said of them comes back.
        """
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), got {averaging}.")
        objectives = Objectives(method, funnel, late)
        draw = partial(generator, seed)
        network = Network(
            spec, objectives.heads, dim=dim, interaction=interaction, architecture=architecture, draw=draw
        )
        embedding = PackedEmbedding(
            spec.num_rows,
            dim * network.spaces,
            bag_lengths=spec.bag_lengths,
            generator=draw("embedding"),
        )
        # drawn on the processor, so that a line begins alike everywhere
        network, embedding = network.to(device), embedding.to(device)
        leaves = network.leaves(torch.empty(0))
        balancing = balancer(len(funnel), len(leaves.shared)).on(embedding.weight_RD.device)
        balancing.told(objectives.squared)
        return cls(
            spec,
            objectives,
            embedding=embedding,
            network=network,
            balancer=balancing,
            embedding_optimizer=balancing.row_optimizer(
                embedding_optimizer, embedding.weight_RD, embedding_rate
            ),
            dense_optimizer=balancing.dense_optimizer(leaves, rate=dense_rate, weight_decay=weight_decay),
            averaging=averaging,
            products=products,
            log_rates_K=objectives.log_rates(negative_rates),
        )

    @property
    def steps(self) -> int:
        """Batches learned so far, over all days."""
        return int(self._steps)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers: embedding table, network and balancer."""
        modules = (*self.network.parameters(), *self.balancer.parameters())
        return self.embedding.weight_RD.numel() + sum(parameter.numel() for parameter in modules)

    def learn(self, batch: Batch) -> Tensor:
        """Take one step.

        Returns:
            The loss of every objective before the step, shape (K,).

        Raises:
            ValueError: the batch has another layout or no labels.
            NotFinite: a loss or gradient is NaN or infinite; nothing has been changed.
        """
        self.spec.check(batch)
        if not self.network.training:  # then it may draw noise of its own, such as dropout
            self.network.train()
        batch = batch.to(self.device)
        labels = Labels(*batch.labels, batch.weight_B, self.steps, batch.reading)
        found = look_up(self.embedding, batch, self._how)
        found.vectors.requires_grad_()
        losses_K = self._losses(found, labels)
        told_K = losses_K.detach().cpu()
        refuse_losses(told_K, self.funnel, self.steps + 1)
        for parameter in self._parameters.values():
            parameter.grad = None
        leaves = self.network.leaves(found.vectors)
        self.balancer.backward(losses_K, leaves)
        vectors_grad = self.balancer.vectors_gradient(leaves)
        refuse_gradients(vectors_grad, self._parameters, self.steps + 1)
        self.dense_optimizer.step()
        if vectors_grad is not None:
            self.embedding_optimizer.step(found.rows.flatten(), vectors_grad.flatten(-3, -2))
        self._steps += 1
        self._follow()
        if self.balancer.second_pass:
            with torch.no_grad():
                self.balancer.after(self._losses(look_up(self.embedding, batch, self._how), labels))
        return told_K

    def begin_day(self) -> None:
        """Called before the first batch of a pass over a day."""
        self.balancer.begin_day()

    def reset_rows(self, rows_N: Tensor, seed: int) -> None:
        """Begin embedding rows anew, before they learn of another id than so far.

        Weights become those of a fresh line, to the bit, and the optimiser forgets the rows; a row that was
        never trained does not change. The network, which learned with the old vectors, stays as it is.

        Args:
            rows_N: table rows, int64.
            seed: of the line, as ``fresh`` took it.

        Raises:
            IndexError: a row is negative or not below the table's end.
        """
        if len(rows_N):
            self.embedding.reset(rows_N, generator(seed, "embedding"))
            self.embedding_optimizer.reset(rows_N.to(self.device))

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Predictions:
        """Score rows: probabilities of the binary objectives, and the expected values of the others."""
        self.spec.check(batch)
        if self.network.training:
            self.network.eval()
        batch = batch.to(self.device)
        logits_BH = self._logits(look_up(self.embedding, batch, self._how).read(), self._average)
        return self.objectives.predictions(logits_BH.cpu())

    def averaged(self) -> Network:
        """The network that rows are scored with; a copy where weights are averaged."""
        self.network.eval()
        if not self._average:
            return self.network
        (averaged := deepcopy(self.network)).load_state_dict(self._average)
        return averaged

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name.

        The tensors are the live ones, as in torch: save or clone them before the next step.
        """
        state = {"steps": self._steps, "embedding.weight_RD": self.embedding.weight_RD}
        state |= self.objectives.units()
        for name, tensor in self.embedding_optimizer.state().items():
            state[f"embedding_optimizer.{name}"] = tensor
        state |= {f"average.{name}": tensor for name, tensor in self._average.items()}
        modules: tuple[tuple[str, nn.Module], ...] = (("network", self.network), ("balancer", self.balancer))
        for part, module in modules:
            for name, tensor in module.state_dict().items():
                state[f"{part}.{name}"] = tensor
            for name, parameter in module.named_parameters():
                for slot, tensor in self.dense_optimizer.state[parameter].items():
                    state[f"dense_optimizer.{part}.{name}.{slot}"] = tensor
        return state

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state of an equal line into this one; the next step is then the same to the bit.

        Raises:
            StateMismatch: naming every tensor that is missing, unexpected, or of another shape, type or unit.
        """
        own = self.state()
        problems = [f"missing {name}" for name in own if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in own]
        for name in own.keys() & state.keys():
            expected, found = (f"{tuple(t.shape)} {t.dtype}" for t in (own[name], state[name]))
            if expected != found:
                problems.append(f"{name} is {found}, expected {expected}")
        problems += self.objectives.other_units(state)
        if problems:
            raise StateMismatch("This state is not of this line: " + "; ".join(sorted(problems)) + ".")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _losses(self, found: Lookup, labels: Labels) -> Tensor:
        logits_BH = self._logits(found.read())
        return self.objectives.losses(sample_logits(logits_BH, self._log_rates_K), labels)

    def _logits(self, read: Read, weights: dict[str, Tensor] | None = None) -> Tensor:
        """Logits of the network, with its own weights or with those given, shape (B, H)."""
        narrow = self.products != torch.float32
        with torch.autocast(read[0].device.type, dtype=self.products, enabled=narrow):
            logits_BH: Tensor = (
                functional_call(self.network, weights, read) if weights else self.network(*read)
            )
        return logits_BH.float()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; a young average keeps less of its past."""
        if self._average:
            keep = min(self._averaging, (1 + self.steps) / (10 + self.steps))
            new = [parameter.detach() for parameter in self.network.parameters()]
            torch._foreach_lerp_(list(self._average.values()), new, 1 - keep)
