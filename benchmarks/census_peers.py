"""The same networks by torch-rechub and DeepCTR-Torch, trained with their own trainers on the same arrays.

They are not among our dependencies. ``pip install torch-rechub deepctr-torch requests`` puts them into an
environment that has torch and the packages of ``requirements.lock``; without them their rows are left out.

What is set is what the comparison holds equal: embedding size, widths of experts and towers, batch, epochs.
The rest is what their documentation says. Adam with a rate of 0.001 for both; torch-rechub's example for this
data decays weights by 0.0001, and its layers have batch normalisation. DeepCTR-Torch keeps its penalty of
0.00001 on embeddings and its gates with a hidden layer of 64; its initial deviation of 0.0001 is raised to
0.05, with which it learns more in as many epochs (0.936 instead of 0.930 for income on validation rows after
four) and no tower begins dead. Neither has a single-task network for two labels, and DeepCTR-Torch no AITM.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from census_data import Census, Part

RATE, DECAY, DEVIATION = 1e-3, 1e-4, 0.05


class Rival(Protocol):
    """A network in training."""

    def epoch(self) -> None:
        """Learn all training rows once."""

    def score(self, part: Part) -> np.ndarray:
        """Scores of people, shape (B, K)."""


def columns(census: Census, part: Part) -> dict[str, np.ndarray]:
    """Every attribute by name; nominal ones count from 0, which is also what training has not seen."""
    codes = np.maximum(part.rows_BF - census.starts - 1, 0)
    named = {name: codes[:, f] for f, name in enumerate(census.sizes)}
    return named | {name: part.dense_BQ[:, q] for q, name in enumerate(census.numbers)}


class Rechub:
    """torch-rechub, its ``MTLTrainer``; batches are cut from tensors, its own loader goes row by row."""

    def __init__(self, census: Census, name: str, widths: Any, dim: int, batch: int, seed: int) -> None:  # noqa: ANN401
        torch.manual_seed(seed)
        models = importlib.import_module("torch_rechub.models.multi_task")
        kinds = importlib.import_module("torch_rechub.basic.features")
        inputs = [kinds.SparseFeature(n, size, embed_dim=dim) for n, size in census.sizes.items()]
        inputs += [kinds.DenseFeature(n) for n in census.numbers]
        tasks = ["classification"] * 2
        towers = [{"dims": list(widths.tower)} for _ in tasks]
        if name == "SharedBottom":
            model = models.SharedBottom(inputs, tasks, {"dims": list(widths.bottom)}, towers)
        elif name == "MMoE":
            model = models.MMOE(inputs, tasks, widths.experts, {"dims": list(widths.expert)}, towers)
        elif name == "PLE":
            expert = {"dims": list(widths.expert)}
            model = models.PLE(inputs, tasks, widths.levels, widths.own, widths.shared, expert, towers)
        else:
            model = models.AITM(inputs, 2, {"dims": list(widths.network)}, towers)
        trainer = importlib.import_module("torch_rechub.trainers").MTLTrainer
        self.trainer = trainer(model, tasks, optimizer_params={"lr": RATE, "weight_decay": DECAY})
        self.census, self.batch, self.model = census, batch, model
        self.inputs, self.y = self._tensors(census.train), torch.from_numpy(census.train.y_BK)

    def _tensors(self, part: Part) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(column) for name, column in columns(self.census, part).items()}

    def _batches(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        for chosen in torch.split(torch.randperm(len(self.y)), self.batch):
            yield {name: column[chosen] for name, column in self.inputs.items()}, self.y[chosen]

    def epoch(self) -> None:
        """Learn all training rows once."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.trainer.train_one_epoch(self._batches())

    @torch.inference_mode()
    def score(self, part: Part) -> np.ndarray:
        """Scores of people, shape (B, K)."""
        self.model.eval()
        found: np.ndarray = self.model(self._tensors(part)).numpy()
        return found


class DeepCTR:
    """DeepCTR-Torch, its ``compile`` and ``fit``."""

    def __init__(self, census: Census, name: str, widths: Any, dim: int, batch: int, seed: int) -> None:  # noqa: ANN401
        models = importlib.import_module("deepctr_torch.models")
        kinds = importlib.import_module("deepctr_torch.inputs")
        inputs = [kinds.SparseFeat(n, size, embedding_dim=dim) for n, size in census.sizes.items()]
        inputs += [kinds.DenseFeat(n, 1) for n in census.numbers]
        common = {"tower_dnn_hidden_units": widths.tower, "seed": seed, "init_std": DEVIATION}
        if name == "SharedBottom":
            self.model = models.SharedBottom(inputs, bottom_dnn_hidden_units=widths.bottom, **common)
        elif name == "MMoE":
            self.model = models.MMOE(
                inputs, num_experts=widths.experts, expert_dnn_hidden_units=widths.expert, **common
            )
        else:
            self.model = models.PLE(
                inputs,
                shared_expert_num=widths.shared,
                specific_expert_num=widths.own,
                num_levels=widths.levels,
                expert_dnn_hidden_units=widths.expert,
                **common,
            )
        self.model.compile(torch.optim.Adam(self.model.parameters(), lr=RATE), loss="binary_crossentropy")
        self.census, self.batch = census, batch
        torch.manual_seed(seed)

    def epoch(self) -> None:
        """Learn all training rows once."""
        train = self.census.train
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.model.fit(
                columns(self.census, train), train.y_BK, batch_size=self.batch, epochs=1, verbose=0
            )

    def score(self, part: Part) -> np.ndarray:
        """Scores of people, shape (B, K)."""
        found: np.ndarray = self.model.predict(columns(self.census, part), batch_size=8192)
        return found


#: Networks by peer, and the package that it needs.
PEERS: dict[str, tuple[str, Callable[..., Rival], tuple[str, ...]]] = {
    "torch-rechub": ("torch_rechub", Rechub, ("SharedBottom", "MMoE", "PLE", "AITM")),
    "DeepCTR-Torch": ("deepctr_torch", DeepCTR, ("SharedBottom", "MMoE", "PLE")),
}


def installed() -> list[str]:
    """Peers whose package is there."""
    return [peer for peer, (package, _, _) in PEERS.items() if find_spec(package) is not None]
