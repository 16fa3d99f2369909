"""Test AUC on Census-Income: our networks, the same ones of torch-rechub and DeepCTR-Torch, published rows.

    python benchmarks/census.py --split A
    python benchmarks/census.py --split B --seeds 5 --runs /tmp/census.jsonl

Two pairs of labels (income and never married; college education and never married), two splits (see
``data/census/README.md``). All networks read the same arrays with embeddings of equal size, have equal widths
(on A but for ours, whose sizes were searched, to half a million weights), learn the same number of epochs in
equal batches, and are tested as they were after the epoch with the best mean AUC on other rows. Each of ours
has the setting that did best of several on these other rows, with seeds that are not reported (``--tune``,
see ``census_settings.py``); the peers have what their documentation says, see ``census_peers.py``. On A both
halves of the official test file are tested, each by what the other half decides, since one half is too small
to tell networks of one kind apart. Both objectives are free: nobody's income is given a marriage.

Shapes: E epochs, P held-out parts, K = 2 objectives.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from census_data import PAIRS, Census, Part, load
from census_peers import PEERS, Rival, installed
from census_settings import AVERAGING, CHOSEN, MOST_WEIGHTS, TUNING_RUNS, Setting, Widths, trials
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

#: In words, and how a network is built from a seed.
Way = tuple[str, Callable[[int], Rival]]

DIM, BATCH, W = Setting.dim, 1024, Widths()
EPOCHS = {"A": 6, "B": 8}
#: The held-out parts that decide on settings and epochs; what is tested is the other part.
DECIDING = {"A": (0, 1), "B": (0,)}
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
            dim=setting.dim,
            dense_rate=setting.rate,
            embedding_rate=setting.rate,
            weight_decay=setting.decay,
            averaging=AVERAGING,
            seed=seed,
        )
        self.weights = sum(parameter.numel() for parameter in self.line.network.parameters())

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


def small(census: Census, pair: tuple[str, str], name: str, setting: Setting, seed: int) -> Ours:
    """One of our lines, of a size that is compared on A and B."""
    torch.manual_seed(seed)  # of dropout
    ours = Ours(census, pair, name, setting, seed)
    if ours.weights > MOST_WEIGHTS:
        raise ValueError(
            f"{name}, {setting} has {ours.weights} weights, at most {MOST_WEIGHTS} are compared."
        )
    return ours


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


def learn(census: Census, rival: Rival, epochs: int) -> np.ndarray:
    """AUC after every epoch on every part that is held out, shape (epochs, parts, K)."""
    found = np.empty((epochs, len(census.held), 2))
    for epoch in found:
        rival.epoch()
        for p, part in enumerate(census.held):
            epoch[p] = aucs(part, rival.score(part))
    return found


def best_epoch(auc_EPK: np.ndarray, decides: int) -> int:
    """The epoch with the best mean AUC on a part, from 0."""
    return int(auc_EPK[:, decides].mean(-1).argmax())


def systems(split: str, pair: tuple[str, str], census: Census) -> Iterator[tuple[str, str, list[Way]]]:
    """Side, network, and for every part that decides: with which setting, in words, and how it is built."""
    for name, settings in CHOSEN[split, pair[0]].items():
        yield "ours", name, [(str(s), partial(small, census, pair, name, s)) for s in settings]
    for peer in installed():
        _, build, names = PEERS[peer]
        for name in names:
            way = "as documented", partial(build, census, name, W, DIM, BATCH)
            yield peer, name, [way] * len(DECIDING[split])


def tune(split: str, read: Callable[..., Census], epochs: int, names: tuple[str, ...]) -> None:
    """AUC of every trial on every part that decides, as of its best epoch there, and its mean over runs."""
    runs = range(TUNING_RUNS[split])
    censuses = {pair: [read(pair, fold=fold, blind=True) for fold in runs] for pair in PAIRS}
    for name in names:
        for setting in trials(split, name):
            for pair, folds in censuses.items():
                learned = [
                    learn(census, small(census, pair, name, setting, TUNING_SEED + fold), epochs)
                    for fold, census in enumerate(folds)
                ]
                for part in DECIDING[split]:
                    found_K = np.mean([auc_EPK[best_epoch(auc_EPK, part), part] for auc_EPK in learned], 0)
                    shown = " | ".join(f"{value:.5f}" for value in (*found_K, found_K.mean()))
                    print(f"| {pair[0]} | {part} | {name} | {setting} | {shown} |", flush=True)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description="Census-Income: ours, peers and published rows.")
    parser.add_argument("--split", choices=["A", "B"], default="A", help="see data/census/README.md")
    parser.add_argument("--seeds", type=int, default=5, help="runs of every network (5)")
    parser.add_argument("--epochs", type=int, help="passes over the training rows (6 on A, 8 on B)")
    parser.add_argument("--no-bins", action="store_true", help="encode numbers as numbers alone")
    parser.add_argument("--strict", action="store_true", help="drop what tells part of a label, too")
    parser.add_argument("--runs", type=Path, help="file of runs: what is in it is not run again")
    parser.add_argument(
        "--tune", nargs="*", metavar="NETWORK", help="AUC of the trials alone, on what decides"
    )
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
        for name, settings in CHOSEN[chosen.split, pair[0]].items():
            print(f"{name}: {'; '.join(map(str, settings))}")


def collect(
    censuses: dict[tuple[str, str], Census], setting: dict[str, object], seeds: int, kept: Path | None
) -> list[dict[str, object]]:
    """Runs of this setting: those in the file, and those that it lacks, which are appended to it.

    A run is one network and seed, tested as one part decides; where two parts decide on the same setting,
    both runs are of one training.
    """
    split, epochs = str(setting["split"]), int(str(setting["epochs"]))
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    told = (row for row in map(json.loads, lines) if setting.items() <= row.items())
    # runs of before there was a choice of what decides are made again
    known = {run_key(row): row for row in told if "decides" in row}
    rows = []
    for seed in range(seeds):
        for pair, census in censuses.items():
            for side, name, ways in systems(split, pair, census):
                learned: dict[str, tuple[np.ndarray, float]] = {}
                for decides, (how, build) in zip(DECIDING[split], ways, strict=True):
                    row: dict[str, object] = setting | {"pair": list(pair), "side": side, "network": name}
                    row |= {"seed": seed, "decides": decides, "how": how}
                    if (done := known.get(run_key(row))) is not None:
                        rows.append(done)
                        continue
                    if how not in learned:
                        began = time.process_time()
                        learned[how] = learn(census, build(seed), epochs), time.process_time() - began
                    auc_EPK, seconds = learned[how]
                    best = best_epoch(auc_EPK, decides)
                    row |= {"test": auc_EPK[best, 1 - decides].tolist(), "epoch": best + 1}
                    row |= {"cpu_s": round(seconds, 1)}
                    rows.append(row)
                    if kept:
                        with kept.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    return rows


def run_key(row: dict[str, object]) -> str:
    """What a run is, without what came out."""
    return json.dumps([row[name] for name in ("pair", "side", "network", "seed", "decides", "how")])


if __name__ == "__main__":
    main()
