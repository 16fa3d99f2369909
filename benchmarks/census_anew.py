"""PLE against single-task networks on Census-Income, with all people divided anew (split C).

    python benchmarks/census_anew.py --runs 6 --first 6
    python benchmarks/census_anew.py --runs 6 --first 6 --pairs income --file /tmp/anew.jsonl

On split A every setting was chosen while the outcome on its test rows could be seen (``RESULTS.md``). Here
both settings were fixed before any of these runs (``FIXED``), and every person is a test row once in three
runs: a run tests a third, decides the epoch by a sixth of the others and learns the rest. Both networks of
a run have the same rows, batches and seed. What is told are differences run by run; their standard error
counts the rows that happened to be tested, too.

Shapes: N runs, K = 2 objectives.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from census import Ours, best_epoch, learn
from census_data import PAIRS, load
from census_settings import FIXED
from census_table import deviation

EPOCHS = 8
DECIDES, TESTED = 0, 1
#: Of the first run; no run elsewhere has such a seed.
SEED = 3000


def told(pair: tuple[str, str], name: str, number: int) -> dict[str, object]:
    """What a run is, without what came out."""
    return {"pair": pair[0], "network": name, "run": number, "how": str(FIXED[pair[0]][name])}


def run(pair: tuple[str, str], name: str, number: int) -> dict[str, object]:
    """One network on one third of the people: what the run is and what came out."""
    census, setting = load("C", pair, fold=number), FIXED[pair[0]][name]
    began = time.process_time()
    torch.manual_seed(number)  # of dropout
    ours = Ours(census, pair, name, setting, SEED + number)
    auc_EPK = learn(census, ours, EPOCHS)
    epoch = best_epoch(auc_EPK, DECIDES)
    return told(pair, name, number) | {
        "test": auc_EPK[epoch, TESTED].tolist(),
        "epoch": epoch + 1,
        "weights": ours.weights,
        "cpu_s": round(time.process_time() - began),
    }


def main() -> None:
    """Run what is missing and print a table by pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=6, help="three test everybody once (6)")
    parser.add_argument("--first", type=int, default=6, help="0 to 5 were run with other settings (6)")
    firsts = [first for first, _ in PAIRS]
    parser.add_argument("--pairs", nargs="+", default=firsts, choices=firsts, help="by first objective")
    parser.add_argument("--file", type=Path, help="file of runs: what is in it is not run again")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = asked.file.read_text().splitlines() if asked.file and asked.file.exists() else []
    done = [json.loads(line) for line in lines]
    pairs = [pair for pair in PAIRS if pair[0] in asked.pairs]
    numbers = range(asked.first, asked.first + asked.runs)
    wanted = [(pair, name, n) for n in numbers for pair in pairs for name in FIXED[pair[0]]]
    found = []
    for place, one in enumerate(wanted, start=1):
        row = next((row for row in done if told(*one).items() <= row.items()), None)
        if row is None:
            row = run(*one)
            if asked.file:
                with asked.file.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(f"{place} of {len(wanted)}: {row}", file=sys.stderr, flush=True)
        found.append(row)
    print(f"{asked.runs} runs, {EPOCHS} epochs, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}")
    for pair in pairs:
        table(pair, [row for row in found if row["pair"] == pair[0]])


def table(pair: tuple[str, str], rows: list[dict[str, object]]) -> None:
    """Means of both networks, and what PLE has more, run by run."""
    print(f"\n| network | {pair[0]} | {pair[1]} | weights | epoch | CPU s | setting |\n|{7 * ' --- |'}")
    tests: dict[str, np.ndarray] = {}
    for name, setting in FIXED[pair[0]].items():
        own = [row for row in rows if row["network"] == name]
        tests[name] = np.array([row["test"] for row in own])
        aucs = " | ".join(f"{auc:.5f}" for auc in tests[name].mean(0))
        weights, epoch, cpu = (np.mean([row[c] for row in own]) for c in ("weights", "epoch", "cpu_s"))
        print(f"| {name} | {aucs} | {weights:.0f} | {epoch:.1f} | {cpu:.0f} | {setting} |")
    more_NK = tests["PLE"] - tests["SingleTask"]
    for k, objective in enumerate(pair):
        each = ", ".join(f"{1e4 * more:+.1f}" for more in more_NK[:, k])
        mean, error = more_NK[:, k].mean(), deviation(more_NK)[k] / len(more_NK) ** 0.5
        print(f"PLE less SingleTask, {objective}, 1e-4: {1e4 * mean:+.1f} ± {1e4 * error:.1f} ({each})")


if __name__ == "__main__":
    main()
