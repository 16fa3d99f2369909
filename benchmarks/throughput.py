"""Training rows per CPU second, peak memory and AUC: ours against DeepCTR-Torch and torch-rechub.

    python benchmarks/throughput.py --rows 2000000
    python benchmarks/throughput.py --rows 200000 --models esmm --sides ours torch-rechub --batches 1024

One planted click-conversion set (``throughput_data.py``), three models at equal sizes, one pass each. Every
measurement is a process of its own, with one thread; rounds alternate between the sides. Counted are CPU
seconds of the process while it trains. On our side that includes reading Parquet, encoding and shuffling; the
peers have their arrays in memory already. Peak memory is that of the whole process.

Ours uses the compiled kernels (``make kernels``) if there are some, but with ``FUNNELCAST_KERNELS=off``.
Without the peers (``throughput_peers.py`` says how to install them): ``--sides ours``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import throughput_data as planted
import torch
from peak import peak_mib

import features  # noqa: F401 - settings of Polars, which the processes below begin with
from models.machine import PRODUCTS

SIDES = ("ours", "DeepCTR-Torch", "torch-rechub")
MODELS = ("esmm", "mmoe", "ple")


def measure(
    side: str, model: str, file: Path, test: Path | None, batch: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """Train one model once; seconds, peak memory, and the AUC of each objective where ``test`` is given."""
    torch.set_num_threads(1)
    found = (ours if side == "ours" else peer)(side, model, file, test, batch, asked)
    if test is not None:
        found["auc"] = auc(found.pop("predicted"), test)
    return found


def ours(
    side: str, model: str, file: Path, test: Path | None, batch: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """Our line, from Parquet."""
    from models.machine import prepare

    prepare()
    import throughput_ours as mine

    from features.prefetch import ahead
    from models.batch import Batch
    from models.train import train_one_pass

    del side
    encoder = mine.encoder(planted.sizes(asked.most_ids, asked.more_rows))
    line = mine.line(model, encoder.layout, batch_rows=batch, products=asked.products)
    with _Meter() as meter:
        train_one_pass(line, map(Batch.from_numpy, ahead(mine.batches(file, encoder, batch))))
    return meter.found | ({} if test is None else {"predicted": mine.predictions(line, encoder, test)})


def peer(
    side: str, model: str, file: Path, test: Path | None, batch: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """A peer, from arrays in memory."""
    from throughput_peers import PEERS, quiet

    with quiet():
        trained = PEERS[side](model, file, planted.sizes(asked.most_ids, asked.more_rows))
        with _Meter() as meter:
            trained.train(batch)
        return meter.found | ({} if test is None else {"predicted": trained.predict(test, 4096)})


class _Meter:
    """CPU and wall seconds inside of it, and the peak of the process so far at its end."""

    found: dict[str, Any]

    def __enter__(self) -> _Meter:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self.found = {
            "cpu_s": time.process_time() - self._cpu,
            "wall_s": time.perf_counter() - self._wall,
            "peak_mib": peak_mib(),
        }


def auc(predicted: np.ndarray, test: Path) -> list[float]:
    """Area under the curve of click and of click-and-convert, over all impressions."""
    import polars as pl
    from sklearn.metrics import roc_auc_score

    labels = pl.read_parquet(test, columns=list(planted.LABELS))
    return [float(roc_auc_score(labels[name], predicted[:, k])) for k, name in enumerate(planted.LABELS)]


def main() -> None:
    """Measure what is asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="impressions to train on")
    parser.add_argument("--test-rows", type=int, default=500_000, help="held out; 0 leaves the AUC out")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--batches", nargs="+", type=int, default=(4096, 1024))
    parser.add_argument("--products", choices=PRODUCTS, default="bfloat16", help="of ours, where native")
    parser.add_argument(
        "--most-ids", type=int, help="ids of a field are folded into as many (10000: 0.1 M in all)"
    )
    parser.add_argument("--more-rows", type=int, default=0, help="rows of the largest table that no id owns")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/throughput"), help="for the set")  # noqa: S108
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folded = "" if asked.most_ids is None else f"-of-{asked.most_ids}"
    train = asked.folder / f"train-{asked.rows}{folded}.parquet"
    test = asked.folder / f"test-{asked.test_rows}{folded}.parquet" if asked.test_rows else None
    if asked.one:
        (side,), (model,), (batch,) = asked.sides, asked.models, asked.batches
        print(json.dumps(measure(side, model, train, test, batch, asked)))
        return
    planted.write(train, asked.rows, seed=1, most_ids=asked.most_ids)
    if test is not None:
        planted.write(test, asked.test_rows, seed=1, first=1_000_000_000, most_ids=asked.most_ids)
    for batch in asked.batches:
        for model in asked.models:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in asked.sides}
            for _ in range(asked.rounds):
                for side in asked.sides:
                    runs[side].append(_child(side, model, batch))
            _print(model, batch, asked.rows, runs)


def _child(side: str, model: str, batch: int) -> dict[str, Any]:
    """The same command for one measurement, in a process of its own."""
    told = [sys.executable, *sys.argv, "--one", "--sides", side, "--models", model, "--batches", str(batch)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    done = subprocess.run(told, env=os.environ | threads, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(model: str, batch: int, rows: int, runs: dict[str, list[dict[str, Any]]]) -> None:
    cost = {side: statistics.median(run["cpu_s"] for run in found) for side, found in runs.items()}
    for side, found in runs.items():
        peak, wall = max(run["peak_mib"] for run in found), statistics.median(run["wall_s"] for run in found)
        aucs = " / ".join(f"{value:.4f}" for value in found[-1].get("auc", ()))
        print(
            f"| {model}, {batch} | {side} | {rows / cost[side] / 1000:.1f} | {cost[side] / rows * 1e6:.1f} "
            f"| {cost[side] / cost[next(iter(cost))]:.1f} | {rows / wall / 1000:.1f} | {peak:.0f} | {aucs} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
