"""How many products the compiled kernels leave out because what they would multiply is zero.

    python benchmarks/dark_units.py

The 100 best of 64 users among 1,024 items of the planted set of ``throughput_data.py``, by kernels in which
every instruction is written out (``emulated.py``), so that they can be counted on any processor. Printed are,
for every model, the products of 16 pairs of numbers that a pair of user and item takes if all units are lit,
and the share that is made

* with weights as they are drawn;
* once the line has learned ``--rows`` rows.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path
from tempfile import TemporaryDirectory

import throughput_data as planted
import throughput_ours as mine
import throughput_scoring as scoring
import torch
from emulated import FLAGS

from features.candidates import Product
from features.encode import Encoder, Layout
from flows.stages.pairs import product_scores
from models import checkpoint
from models.blocks import Networks
from models.line import Line
from models.machine import prepare
from models.native import library
from models.native.build import build

_USERS, _ITEMS, _BEST = 64, 1024, 100


class Counter:
    """Counts what the kernels multiply."""

    def __init__(self, kernels: ctypes.CDLL) -> None:
        self._kernels, self._made = kernels, ctypes.c_int64.in_dll(kernels, "products_made")

    def a_pair(self, line: Line, encoder: Encoder, product: Product) -> float:
        """Products for each pair of the best of every user."""
        line.products = torch.bfloat16
        library.kernels = lambda: self._kernels  # type: ignore[assignment]
        before = self._made.value
        for _ in product_scores(line, encoder, product, _BEST):
            pass
        library.kernels = lambda: None  # type: ignore[assignment]
        line.products = torch.float32
        return (self._made.value - before) / (_USERS * _ITEMS)


@torch.no_grad()
def lit(line: Line) -> Line:
    """The line with all hidden units above zero, whatever they read."""
    for module in line.network.modules():
        if isinstance(module, Networks):
            for weight, bias in zip(module.weights, module.biases, strict=True):
                weight.abs_()
                bias.fill_(1e3)
    return line


def main() -> None:
    """Print a row per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000, help="that are learned before")
    parser.add_argument("--models", nargs="+", default=list(mine.ARCHITECTURES), choices=mine.ARCHITECTURES)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/throughput"), help="for the set")  # noqa: S108
    asked = parser.parse_args()
    prepare()
    with TemporaryDirectory() as folder:
        build(to := Path(folder) / "kernels.so", (*FLAGS, "-DCOUNT_PRODUCTS"))
        counter = Counter(ctypes.CDLL(str(to)))
    library.kernels = lambda: None  # type: ignore[assignment]
    files = scoring.prepare(asked.folder, _USERS, _ITEMS, planted.BLOCK)
    shop = scoring.scenario()
    encoder = Encoder(Layout.of(shop.features), mine.id_map())
    product = scoring.product(shop, files)
    print("| model | products of a pair | made as drawn | once it has learned |")
    print("|" + 4 * " --- |")
    for model in asked.models:
        whole = counter.a_pair(lit(mine.line(model, encoder.layout)), encoder, product)
        line = mine.line(model, encoder.layout)
        drawn = counter.a_pair(line, encoder, product)
        line.restore(checkpoint.load(mine.learned(model, asked.folder, asked.rows))[0])
        learned = counter.a_pair(line, encoder, product)
        print(f"| {model} | {whole:,.0f} | {drawn / whole:.1%} | {learned / whole:.1%} |", flush=True)


if __name__ == "__main__":
    main()
