"""One model line: network, losses, balancer and optimisers that are trained, saved and scored together.

Shapes: B rows, P looked-up positions, D numbers per vector, X input columns of the network, K objectives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import logsigmoid

from features.funnel import Funnel
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.batch import Batch, InputSpec
from models.embedding import PackedEmbedding
from models.entire_space.base import EntireSpace
from models.entire_space.chain import log_reach
from models.lazy_adam import LazyAdam
from models.recalibrate import log_rates, sample_logits


class NotFinite(ArithmeticError):
    """A loss or a gradient was NaN or infinite; the weights were not touched."""


class StateMismatch(ValueError):
    """A state does not belong to this line; every offending name is listed and nothing was restored."""


class Line:
    """Everything that one recipe trains. Build it with ``Line.fresh``; continue it with ``restore``.

    Attributes:
        spec: layout of the batches.
        funnel: the objectives, in the order of every (B, K) tensor.
        method: how conditional logits become losses.
    """

    def __init__(
        self,
        spec: InputSpec,
        funnel: Funnel,
        *,
        embedding: PackedEmbedding,
        architecture: Architecture,
        method: EntireSpace,
        balancer: Balancer,
        embedding_optimizer: LazyAdam,
        dense_optimizer: torch.optim.Optimizer,
        averaging: float,
        products: torch.dtype,
        log_rates_K: Tensor,
    ) -> None:
        self.spec, self.funnel, self.method, self.products = spec, funnel, method, products
        self.embedding, self.architecture, self.balancer = embedding, architecture, balancer
        self.embedding_optimizer, self.dense_optimizer = embedding_optimizer, dense_optimizer
        self._shared = architecture.shared_parameters()
        self._averaging, self._log_rates_K = averaging, log_rates_K
        self._average = (
            {n: p.detach().clone() for n, p in architecture.named_parameters()} if averaging else {}
        )
        self._steps = torch.zeros((), dtype=torch.int64)

    @classmethod
    def fresh(
        cls,
        spec: InputSpec,
        funnel: Funnel,
        *,
        architecture: Callable[..., Architecture],
        method: EntireSpace,
        balancer: Callable[[int], Balancer],
        dim: int,
        dense_rate: float,
        embedding_rate: float,
        weight_decay: float = 0.0,
        averaging: float = 0.0,
        products: torch.dtype = torch.float32,
        negative_rates: Sequence[float] | None = None,
        seed: int,
    ) -> Self:
        """A line before its first step; the same arguments give the same bytes.

        Args:
            spec: layout of the batches.
            funnel: the objectives.
            architecture: an ``Architecture`` class, or a ``partial`` of one with its settings.
            method: how conditional logits become losses.
            balancer: a ``Balancer`` class, or a ``partial`` of one with its settings.
            dim: D, numbers per embedding vector.
            dense_rate: step size of Adam for the network and the balancer.
            embedding_rate: step size of ``LazyAdam`` for the embedding table.
            weight_decay: decoupled decay of the network's weights (Loshchilov, Hutter, Decoupled Weight
                Decay Regularization, ICLR 2019); embeddings and balancers do not decay.
            averaging: share of the old average that a step keeps; rows are scored with this average of the
                network's weights, which forgets the noise of the last steps (Polyak, Juditsky,
                Acceleration of Stochastic Approximation by Averaging, 1992, in its exponential form).
                Embeddings are not averaged. 0 scores with the weights themselves.
            products: dtype of the network's matrix products; ``torch.bfloat16`` about halves their time
                where the processor has it. Weights, losses and updates stay float32.
            negative_rates: rate at which the negatives of each objective are sampled, see ``recalibrate``;
                logits and probabilities are always those of the logs. ``None`` where nothing is sampled.
            seed: decides every initial value. Each part draws from its own stream, so that another
                network starts from the same embeddings.
        """
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), got {averaging}.")
        embedding = PackedEmbedding(
            spec.num_rows, dim, bag_lengths=spec.bag_lengths, generator=_generator(seed, "embedding")
        )
        network = architecture(spec.width(dim), len(funnel), generator=_generator(seed, "architecture"))
        balancing = balancer(len(funnel))
        dense_optimizer = torch.optim.AdamW(
            [
                {"params": list(network.parameters()), "weight_decay": weight_decay},
                {"params": list(balancing.parameters()), "weight_decay": 0.0},
            ],
            lr=dense_rate,
            fused=True,
        )
        for parameter in (*network.parameters(), *balancing.parameters()):
            # Adam would make it at the first gradient; made here, a fresh line has all names of an old one
            dense_optimizer.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
        return cls(
            spec,
            funnel,
            embedding=embedding,
            architecture=network,
            method=method,
            balancer=balancing,
            embedding_optimizer=LazyAdam(embedding.weight_RD, rate=embedding_rate),
            dense_optimizer=dense_optimizer,
            averaging=averaging,
            products=products,
            log_rates_K=log_rates(negative_rates, len(funnel)),
        )

    @property
    def steps(self) -> int:
        """Batches learned so far, over all days."""
        return int(self._steps)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers: embedding table, network and balancer."""
        modules = (*self.architecture.parameters(), *self.balancer.parameters())
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
        y_BK, trains_BK = batch.labels
        rows_BP, vectors_BPD = self.embedding.gather(batch.rows_BF, batch.bag_rows_BL)
        vectors_BPD.requires_grad_()
        pooled_BX = self.embedding.pool(vectors_BPD, batch.bag_rows_BL)
        logits_BK = sample_logits(self._logits(pooled_BX, batch.dense_BD), self._log_rates_K)
        losses_K = self.method.losses(logits_BK, y_BK, trains_BK, batch.weight_B, self.funnel)
        self._refuse_losses(losses_K.detach())
        self.dense_optimizer.zero_grad(set_to_none=True)
        self.balancer.backward(losses_K, (*self._shared, vectors_BPD))
        self._refuse_gradients(vectors_BPD.grad)
        self.dense_optimizer.step()
        if vectors_BPD.grad is not None:
            self.embedding_optimizer.step(rows_BP.flatten(), vectors_BPD.grad.flatten(0, 1))
        self._steps += 1
        self._follow()
        return losses_K.detach()

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
            self.embedding.reset(rows_N, _generator(seed, "embedding"))
            self.embedding_optimizer.reset(rows_N)

    @torch.inference_mode()
    def log_probabilities(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Score rows.

        Returns:
            Log-probabilities, both of shape (B, K): of each objective given its parent, and of reaching
            it from the impression.
        """
        self.spec.check(batch)
        pooled_BX = self.embedding(batch.rows_BF, batch.bag_rows_BL)
        logits_BK = self._logits(pooled_BX, batch.dense_BD, self._average)
        return logsigmoid(logits_BK), log_reach(logits_BK, self.funnel)[0]

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name.

        The tensors are the live ones, as in torch: save or clone them before the next step.
        """
        state = {"steps": self._steps, "embedding.weight_RD": self.embedding.weight_RD}
        for name, tensor in self.embedding_optimizer.state().items():
            state[f"embedding_optimizer.{name}"] = tensor
        state |= {f"average.{name}": tensor for name, tensor in self._average.items()}
        modules: tuple[tuple[str, nn.Module], ...] = (
            ("architecture", self.architecture),
            ("balancer", self.balancer),
        )
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
            StateMismatch: naming every tensor that is missing, unexpected, or of another shape or dtype.
        """
        own = self.state()
        problems = [f"missing {name}" for name in own if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in own]
        for name in own.keys() & state.keys():
            expected, found = (f"{tuple(t.shape)} {t.dtype}" for t in (own[name], state[name]))
            if expected != found:
                problems.append(f"{name} is {found}, expected {expected}")
        if problems:
            raise StateMismatch("This state is not of this line: " + "; ".join(sorted(problems)) + ".")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _logits(
        self, pooled_BX: Tensor, dense_BD: Tensor, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Logits of the network, with its own weights or with those given."""
        x_BX = torch.cat((pooled_BX, dense_BD), dim=1) if dense_BD.shape[1] else pooled_BX
        with torch.autocast("cpu", dtype=self.products, enabled=self.products != torch.float32):
            logits_BK: Tensor = functional_call(self.architecture, dict(weights or {}), (x_BX,))
        return logits_BK.float()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; a young average keeps less of its past."""
        if self._average:
            keep = min(self._averaging, (1 + self.steps) / (10 + self.steps))
            new = [parameter.detach() for parameter in self.architecture.parameters()]
            torch._foreach_lerp_(list(self._average.values()), new, 1 - keep)

    def _refuse_losses(self, losses_K: Tensor) -> None:
        if not torch.isfinite(losses_K).all():
            bad = [f"{name} ({loss})" for name, loss in zip(self.funnel.names, losses_K.tolist(), strict=True)
                   if not torch.isfinite(torch.tensor(loss))]  # fmt: skip
            raise NotFinite(
                f"Loss is not finite at step {self.steps + 1}: {', '.join(bad)}. No weight was changed. "
                "Look for non-finite dense columns or weights in the batch, or lower the rates."
            )

    def _refuse_gradients(self, vectors_grad: Tensor | None) -> None:
        gradients = {"embedding": vectors_grad}
        for part, module in (("architecture", self.architecture), ("balancer", self.balancer)):
            gradients |= {f"{part}.{name}": p.grad for name, p in module.named_parameters()}
        # a sum is finite only if all its terms are, and is the cheapest pass over a tensor
        bad = [name for name, g in gradients.items() if g is not None and not torch.isfinite(g.sum())]
        if bad:
            raise NotFinite(
                f"Gradient is not finite at step {self.steps + 1}: {', '.join(bad)}. No weight was changed."
            )


def _generator(seed: int, part: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))
