"""The peers' side of ``throughput.py``: DeepCTR-Torch and torch-rechub, used as their own documents use them.

Neither is needed otherwise. Into an environment of its own, beside this package:

    pip install torch==2.13.0 scikit-learn pandas tqdm
    pip install --no-deps deepctr-torch==0.3.0 torch-rechub==0.9.0

Both hold the whole set in memory. Sizes are equal to ours: embeddings of 16, experts and ESMM's towers
256-128, towers above experts 64, gates linear. The optimiser of both is Adam at 1e-3 over all parameters, the
losses and penalties are their own defaults. The ESMM of torch-rechub reads ids alone, no quantities. The
metrics that DeepCTR-Torch can print while it trains are off.
"""

from __future__ import annotations

import contextlib
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import throughput_data as planted

DIM = 16
_EXPERT, _TOWER = (256, 128), (64,)


class Peer(ABC):
    """One model of one library; ``train`` is what is measured.

    Attributes:
        documented: rows of a batch of ``predict``, where the library's own multi-task example predicts.
    """

    documented: int

    @abstractmethod
    def train(self, batch_rows: int) -> None:
        """One pass over the set."""

    @abstractmethod
    def predict(self, file: Path, batch_rows: int) -> np.ndarray:
        """Probabilities per impression of click and conversion, (N, 2)."""


def arrays(file: Path) -> dict[str, np.ndarray]:
    """What is read and told of a file, a column an array."""
    read = pl.read_parquet(file, columns=[*planted.FIELDS, *planted.QUANTITIES, *planted.LABELS])
    return {name: column.to_numpy(writable=True) for name, column in read.to_dict().items()}


class DeepCTR(Peer):
    """DeepCTR-Torch."""

    documented = 256  # also the default of its predict

    def __init__(self, name: str, file: Path, sizes: Mapping[str, int] = planted.SIZES) -> None:
        from deepctr_torch.inputs import DenseFeat, SparseFeat
        from deepctr_torch.models.multitask import ESMM, MMOE, PLE

        columns = [SparseFeat(name, n, embedding_dim=DIM) for name, n in sizes.items()]
        columns += [DenseFeat(quantity, 1) for quantity in planted.QUANTITIES]
        settings: dict[str, Any] = {"task_names": planted.LABELS, "seed": 1}
        if name == "esmm":
            self._model = ESMM(columns, tower_dnn_hidden_units=_EXPERT, **settings)
        else:
            settings |= {
                "expert_dnn_hidden_units": _EXPERT,
                "gate_dnn_hidden_units": (),
                "tower_dnn_hidden_units": _TOWER,
            }
            self._model = (
                MMOE(columns, num_experts=3, **settings)
                if name == "mmoe"
                else PLE(columns, shared_expert_num=1, specific_expert_num=1, num_levels=2, **settings)
            )
        self._model.compile("adam", loss=["binary_crossentropy"] * 2)
        self._columns = arrays(file)

    def train(self, batch_rows: int) -> None:
        """One epoch of ``fit``."""
        x = {name: self._columns[name] for name in (*planted.FIELDS, *planted.QUANTITIES)}
        y = np.stack([self._columns[name] for name in planted.LABELS], axis=1)
        self._model.fit(x, y, batch_size=batch_rows, epochs=1, verbose=0)

    def predict(self, file: Path, batch_rows: int) -> np.ndarray:
        """Its own ``predict``."""
        columns = arrays(file)
        x = {name: columns[name] for name in (*planted.FIELDS, *planted.QUANTITIES)}
        return np.asarray(self._model.predict(x, batch_size=batch_rows))


class Rechub(Peer):
    """torch-rechub."""

    documented = 1024

    def __init__(self, name: str, file: Path, sizes: Mapping[str, int] = planted.SIZES) -> None:
        from torch_rechub.basic.features import DenseFeature, SparseFeature
        from torch_rechub.models.multi_task import ESMM, MMOE, PLE
        from torch_rechub.trainers import MTLTrainer
        from torch_rechub.utils.data import DataGenerator

        self._generator = DataGenerator
        ids = [SparseFeature(name, n, embed_dim=DIM) for name, n in sizes.items()]
        features = [*ids, *(DenseFeature(quantity) for quantity in planted.QUANTITIES)]
        towers, tasks = [{"dims": list(_TOWER)}] * 2, ["classification"] * 2
        expert = {"dims": list(_EXPERT)}
        # its ESMM also returns, and is handed a label of, the conversion given the click
        self._labels: tuple[str, ...] = planted.LABELS
        if name == "esmm":
            half = len(ids) // 2
            self._model = ESMM(ids[:half], ids[half:], cvr_params=dict(expert), ctr_params=dict(expert))
            self._labels, tasks = ("y_conversion", *planted.LABELS), ["classification"] * 3
        elif name == "mmoe":
            self._model = MMOE(features, tasks, 3, expert, towers)
        else:
            self._model = PLE(features, tasks, 2, 1, 1, expert, towers)
        self._names = (*planted.FIELDS, *(() if name == "esmm" else planted.QUANTITIES))
        self._trainer = MTLTrainer(self._model, tasks, n_epoch=1)
        self._columns = arrays(file)

    def train(self, batch_rows: int) -> None:
        """One epoch of the trainer, without its validation."""
        loader, _, _ = self._generator(*self._split(self._columns)).generate_dataloader(
            *self._split({name: column[:1] for name, column in self._columns.items()}) * 2,
            batch_size=batch_rows,
        )
        self._trainer.train_one_epoch(loader)

    def predict(self, file: Path, batch_rows: int) -> np.ndarray:
        """Its own ``predict``."""
        from torch.utils.data import DataLoader
        from torch_rechub.utils.data import PredictDataset

        x, _ = self._split(arrays(file))
        loader = DataLoader(PredictDataset(x), batch_size=batch_rows, shuffle=False)
        found = np.asarray(self._trainer.predict(self._model, loader))
        return found[:, -2:]

    def _split(self, columns: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        x = {name: columns[name] for name in self._names}
        return x, np.stack([columns[name] for name in self._labels], axis=1).astype(np.float32)


PEERS: dict[str, type[DeepCTR] | type[Rechub]] = {"DeepCTR-Torch": DeepCTR, "torch-rechub": Rechub}


@contextlib.contextmanager
def quiet() -> Any:  # noqa: ANN401 - a context manager
    """Without their progress bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
