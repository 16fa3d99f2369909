"""Fields of few ids read by vocabulary, beside the same lines that read every position (``models.folded``).

Rows are drawn at random with the fields, bags and quantities of the shipped logs of KuaiRand, or of the
planted set of ``throughput_data.py``; few ids of a field are seen often. Both lines take the same steps in
turns, on one thread; CPU microseconds a row are the least of all turns, the ratio is the median by turn.

    python benchmarks/by_vocabulary.py --batches 4096 1024 256
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import throughput_data as planted
import throughput_ours as mine
import torch

from features.encode import Layout
from features.scenarios.kuairand import SCENARIO
from models.batch import Batch, InputSpec
from models.folded import Fold
from models.machine import PRODUCTS, prepare, products_dtype
from models.native.library import SWITCH

LAYOUTS: dict[str, Callable[[], Layout]] = {
    "kuairand": lambda: Layout.of(SCENARIO.features),
    "planted": lambda: Layout.of(mine.scenario(planted.SIZES).features),
}
#: Batches that are learned again and again.
_BATCHES = 8


def batch(spec: InputSpec, rows: int, rng: np.random.Generator) -> Batch:
    """Random rows; an id of rank r is seen in proportion to 1 / r."""
    first, count = np.array(spec.vocabularies).T
    rank = np.floor((count + 1) ** rng.random((rows, spec.num_fields))).astype(np.int64) - 1
    y = rng.random((rows, 2)) < (0.3, 0.1)
    y[:, 1] &= y[:, 0]
    return Batch.from_numpy(
        {
            "rows": first + rank,
            "bag_rows": rng.integers(1, spec.num_rows, (rows, sum(spec.bag_lengths))),
            "dense": rng.standard_normal((rows, spec.num_dense)).astype(np.float32),
            "y": y.astype(np.float32),
            "trains": np.ones((rows, 2), dtype=np.bool_),
        }
    )


def turns(both: Iterable[Callable[[Batch], object]], batches: list[Batch], count: int) -> list[list[float]]:
    """CPU seconds of a step of each, turn by turn, two steps a turn."""
    steps = list(both)
    found: list[list[float]] = [[] for _ in steps]
    for turn in range(count):
        taken = [batches[(turn + n) % len(batches)] for n in range(2)]
        for step, seconds in zip(steps, found, strict=True):
            begun = time.process_time()
            for one in taken:
                step(one)
            seconds.append((time.process_time() - begun) / len(taken))
    return found


def main() -> None:
    """Print a row per set of fields, batch, model, dtype and step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[4096, 1024])
    parser.add_argument("--models", nargs="+", default=list(mine.ARCHITECTURES), choices=mine.ARCHITECTURES)
    parser.add_argument("--fields", nargs="+", default=list(LAYOUTS), choices=LAYOUTS)
    parser.add_argument("--turns", type=int, default=16)
    asked = parser.parse_args()
    os.environ[SWITCH] = "off"  # torch is compared with torch
    prepare()
    cpu = torch.device("cpu")
    print("| fields, batch | by vocabulary | model | products | step | every position, µs | µs | ratio |")
    print("|" + 8 * " --- |")
    for fields, rows, name in (
        (fields, rows, name) for fields in asked.fields for rows in asked.batches for name in asked.models
    ):
        layout, rng = LAYOUTS[fields](), np.random.default_rng(0)
        spec = mine.spec(layout)
        batches = [batch(spec, rows, rng) for _ in range(_BATCHES)]
        fold = Fold.of(spec, rows, mine.DIM)
        few = f"{0 if fold is None else len(fold.fields)} of {spec.num_fields}"
        for products in PRODUCTS:
            if products == "bfloat16" and products_dtype(products, cpu) != torch.bfloat16:
                continue
            both = [
                mine.line(name, layout, products=products, by_vocabulary=folds) for folds in (False, True)
            ]
            for step in ("learn", "predict"):
                plain, folded = turns((getattr(one, step) for one in both), batches, asked.turns)
                ratio = statistics.median(b / a for a, b in zip(plain, folded, strict=True))
                least = " | ".join(f"{min(seconds) / rows * 1e6:.1f}" for seconds in (plain, folded))
                print(
                    f"| {fields}, {rows} | {few} | {name} | {products} | {step} | {least} | {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
