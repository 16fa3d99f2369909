"""Test AUC on Census-Income: our networks, the same ones of torch-rechub and DeepCTR-Torch, published rows.

    python benchmarks/census.py --split A
    python benchmarks/census.py --split B --seeds 5 --runs /tmp/census.jsonl

Two pairs of labels (income and never married; college education and never married), two splits (see
``data/census/README.md``). All networks read the same arrays with embeddings of equal size, have equal
widths, learn the same number of epochs in equal batches, and are tested as they were after the epoch with the
best mean AUC on the validation rows. Each of ours has the setting that did best of equally many on validation
rows, with seeds that are not reported (``--tune``, see ``census_settings.py``); the peers have what their
documentation says, see ``census_peers.py``. Both objectives are free: nobody's income is given a marriage.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from census_data import PAIRS, Census, Part, load
from census_peers import PEERS, Rival, installed
from census_settings import AVERAGING, CHOSEN, TUNING_RUNS, Setting, Widths, trials
from census_table import table
from independent import Independent, funnel_of

from models.aitm import AITM
from models.architecture import Architecture
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.line import Line
from models.metrics import auc
from models.mmoe import MMoE
from models.ple import PLE
from models.shared_bottom import SharedBottom
from models.single_task import SingleTask

DIM, BATCH, W = 4, 1024, Widths()
EPOCHS = {"A": 6, "B": 8}
TUNING_SEED = 1000
OURS: dict[str, Callable[..., Architecture]] = {
    "SingleTask": partial(SingleTask, layers=(*W.bottom, *W.tower)),
    "SharedBottom": partial(SharedBottom, bottom=W.bottom, layers=W.tower),
    "MMoE": partial(MMoE, experts=W.experts, expert=W.expert, layers=W.tower),
    "PLE": partial(PLE, levels=(W.expert,) * W.levels, own=W.own, shared=W.shared, layers=W.tower),
    "AITM": partial(AITM, layers=W.network),
}


class Ours:
    """One of our lines in training."""

    def __init__(self, census: Census, pair: tuple[str, str], name: str, setting: Setting, seed: int) -> None:
        self.census, self._draw = census, np.random.default_rng(seed)
        self.line = Line.fresh(
            InputSpec(census.num_rows, len(census.sizes), (), len(census.numbers)),
            funnel_of(*pair),
            architecture=partial(OURS[name], **setting.sizes),
            method=Independent(),
            balancer=partial(Static, weights=(1.0, setting.second)),
            dim=DIM,
            dense_rate=setting.rate,
            embedding_rate=setting.rate,
            weight_decay=setting.decay,
            averaging=AVERAGING,
            seed=seed,
        )

    def epoch(self) -> None:
        """Learn all training rows once."""
        train = self.census.train
        order = self._draw.permutation(len(train))
        for start in range(0, len(order), BATCH):
            self.line.learn(batch_of(train, order[start : start + BATCH]))

    def score(self, part: Part) -> np.ndarray:
        """Log-probabilities of people, shape (B, K)."""
        found: np.ndarray = self.line.predict(batch_of(part, slice(None))).conditional_BJ.numpy()
        return found


def batch_of(part: Part, chosen: np.ndarray | slice) -> Batch:
    """People as a batch, with their labels."""
    y_BK = part.y_BK[chosen]
    return Batch.from_numpy(
        {
            "rows": part.rows_BF[chosen],
            "bag_rows": np.empty((len(y_BK), 0), dtype=np.int64),
            "dense": part.dense_BQ[chosen],
            "y": y_BK,
            "trains": np.ones(y_BK.shape, dtype=np.bool_),
        }
    )


def aucs(part: Part, score_BK: np.ndarray) -> list[float]:
    """AUC by objective."""
    return [auc(part.y_BK[:, k], score_BK[:, k]) or 0.0 for k in range(part.y_BK.shape[1])]


def run(census: Census, rival: Rival, epochs: int) -> dict[str, object]:
    """Train, and test (if there are test rows) as of the epoch with the best mean AUC on validation rows."""
    began, best, best_epoch, test = time.process_time(), [0.0, 0.0], 0, [0.0, 0.0]
    for epoch in range(1, epochs + 1):
        rival.epoch()
        found = aucs(census.validation, rival.score(census.validation))
        if mean(found) > mean(best):
            best, best_epoch = found, epoch
            if census.test is not None:
                test = aucs(census.test, rival.score(census.test))
    seconds = time.process_time() - began
    return {"validation": best, "test": test, "epoch": best_epoch, "cpu_s": round(seconds, 1)}


def systems(
    split: str, pair: tuple[str, str], census: Census
) -> Iterator[tuple[str, str, Callable[[int], Rival]]]:
    """Side, network and how it is built from a seed."""
    for name, setting in CHOSEN[split, pair[0]].items():
        yield "ours", name, partial(Ours, census, pair, name, setting)
    for peer in installed():
        _, build, names = PEERS[peer]
        for name in names:
            yield peer, name, partial(build, census, name, W, DIM, BATCH)


def how(split: str, pair: Sequence[str], side: str, name: str) -> str:
    """With which setting a network runs, in words."""
    return str(CHOSEN[split, pair[0]][name]) if side == "ours" else "as documented"


def tune(split: str, read: Callable[..., Census], epochs: int, names: tuple[str, ...]) -> None:
    """Validation AUC of every trial, its mean over runs; the networks never meet a test row."""
    runs = range(TUNING_RUNS[split])
    censuses = {pair: [read(pair, fold=fold, blind=True) for fold in runs] for pair in PAIRS}
    for name in names:
        for setting in trials(split, name):
            found = np.empty((len(PAIRS), len(runs), 2))
            for p, (pair, folds) in enumerate(censuses.items()):
                for fold, census in enumerate(folds):
                    rival = Ours(census, pair, name, setting, TUNING_SEED + fold)
                    found[p, fold] = run(census, rival, epochs)["validation"]
            for pair, mean_K in zip(PAIRS, found.mean(1), strict=True):
                shown = " | ".join(f"{value:.5f}" for value in (*mean_K, mean_K.mean()))
                print(f"| {pair[0]} | {name} | {setting} | {shown} |", flush=True)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description="Census-Income: ours, peers and published rows.")
    parser.add_argument("--split", choices=["A", "B"], default="A", help="see data/census/README.md")
    parser.add_argument("--seeds", type=int, default=5, help="runs of every network (5)")
    parser.add_argument("--epochs", type=int, help="passes over the training rows (6 on A, 8 on B)")
    parser.add_argument("--no-bins", action="store_true", help="encode numbers as numbers alone")
    parser.add_argument("--strict", action="store_true", help="drop what tells part of a label, too")
    parser.add_argument("--runs", type=Path, help="file of runs: what is in it is not run again")
    parser.add_argument("--tune", nargs="*", metavar="NETWORK", help="validation AUC of the trials alone")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    epochs = chosen.epochs or EPOCHS[chosen.split]
    setting = {"split": chosen.split, "epochs": epochs, "bins": not chosen.no_bins, "strict": chosen.strict}
    read = partial(load, chosen.split, telling=not chosen.strict, bins=not chosen.no_bins)
    if chosen.tune is not None:
        tune(chosen.split, read, epochs, tuple(chosen.tune) or tuple(OURS))
        return
    if missing := [peer for peer in PEERS if peer not in installed()]:
        print(f"Not installed and left out: {', '.join(missing)}. See benchmarks/census_peers.py.")
    rows = collect({pair: read(pair) for pair in PAIRS}, setting, chosen.seeds, chosen.runs)
    print(f"{setting}, {chosen.seeds} seeds, batch {BATCH}, dim {DIM}, {W}")
    print(f"{os.cpu_count()} cores, {chosen.threads} thread, torch {torch.__version__}")
    for pair in PAIRS:
        table(rows, pair)
        for name, setting_of in CHOSEN[chosen.split, pair[0]].items():
            print(f"{name}: {setting_of}")


def collect(
    censuses: dict[tuple[str, str], Census], setting: dict[str, object], seeds: int, kept: Path | None
) -> list[dict[str, object]]:
    """Runs of this setting: those in the file, and those that it lacks, which are appended to it."""
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    split, rows = str(setting["split"]), []
    for row in map(json.loads, lines):
        now = how(split, row["pair"], row["side"], row["network"])
        if setting.items() <= row.items() and row["seed"] < seeds and row["how"] == now:
            rows.append(row)
    done = {(tuple(row["pair"]), row["side"], row["network"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for pair, census in censuses.items():
            for side, name, build in systems(split, pair, census):
                if (pair, side, name, seed) in done:
                    continue
                row = setting | {"pair": list(pair), "side": side, "network": name, "seed": seed}
                row["how"] = how(split, pair, side, name)
                row |= run(census, build(seed), int(str(setting["epochs"])))
                rows.append(row)
                if kept:
                    with kept.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    return rows


if __name__ == "__main__":
    main()
