"""What ``torch.compile`` would give: lines as they are beside the same lines in plain operations, compiled.

Plain are all layers as batched products and ReLU, as an accelerator gets them, every position of a batch row
by row. Compiled is the network of such a line, forward and backward. All take the same steps in turns, on one
thread; microseconds are the least CPU seconds of all turns, compiling is counted with its child processes.
Wants a C++ compiler, which nothing else here does.

    TORCHINDUCTOR_CACHE_DIR=$(mktemp -d) python benchmarks/compiled.py --batches 4096 1024
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import throughput_data as planted
import throughput_ours as mine
import torch
from by_vocabulary import batch, turns

from features.encode import Layout
from models.batch import Batch
from models.blocks import Networks
from models.line import Line
from models.machine import PRODUCTS, Products, prepare
from models.native.library import SWITCH

_BATCHES = 8


def plain(name: str, layout: Layout, products: Products) -> Line:
    """A line whose network is made of torch's own operations."""
    line = mine.line(name, layout, products=products, by_vocabulary=False)
    for module in line.network.modules():
        if isinstance(module, Networks):
            module.relu = False  # type: ignore[misc] - layer by layer, which ends in ReLU all the same
    return line


def compiled(name: str, layout: Layout, products: Products, first: Batch) -> tuple[Line, float]:
    """``plain``, compiled by its first step, and how many CPU seconds that took."""
    line = plain(name, layout, products)
    line.network.forward = torch.compile(line.network.forward)  # type: ignore[method-assign]
    begun = _seconds()
    line.learn(first)
    return line, _seconds() - begun


def _seconds() -> float:
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def main() -> None:
    """Print a row per model, batch and dtype."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[4096, 1024])
    parser.add_argument("--models", nargs="+", default=list(mine.ARCHITECTURES), choices=mine.ARCHITECTURES)
    parser.add_argument("--products", nargs="+", default=PRODUCTS, choices=PRODUCTS)
    parser.add_argument("--turns", type=int, default=16)
    asked = parser.parse_args()
    os.environ[SWITCH] = "off"  # torch is compared with torch
    prepare()
    print("| model, batch | products | ours, µs a row | plain | compiled | compiling, CPU s |")
    print("|" + 6 * " --- |")
    layout = Layout.of(mine.scenario(planted.SIZES).features)
    for name, rows, products in (
        (name, rows, products)
        for name in asked.models
        for rows in asked.batches
        for products in asked.products
    ):
        ours, rng = mine.line(name, layout, products=products), np.random.default_rng(0)
        batches = [batch(ours.spec, rows, rng) for _ in range(_BATCHES)]
        whole, took = compiled(name, layout, products, batches[0])
        steps = (ours.learn, plain(name, layout, products).learn, whole.learn)
        least = (min(found) / rows * 1e6 for found in turns(steps, batches, asked.turns))
        print(
            f"| {name}, {rows} | {products} | {' | '.join(f'{one:.1f}' for one in least)} | {took:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
