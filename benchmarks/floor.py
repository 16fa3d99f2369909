"""How near a training step and a scoring step come to what the machine can do at best.

The floor of a row is the time of its matrix products at the rate of one large product, plus the time of the
table's rows that it reads (and, in training, that its batch changes) at the rate of a plain gather from a
table of that size. Fields of few ids are read by vocabulary: a batch reads each of their vectors once, and a
row adds up what the first layers make of its ids (in training also backward), which counts at the rate of
one such sum. Everything else (activations, losses, sums per id, the dense optimiser, the interpreter) counts
as overhead. Rates and steps are measured in turns, in CPU seconds of one thread, on encoded rows of the
planted set of ``throughput_data.py``.

    python benchmarks/floor.py --batch 4096 --profile
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import throughput_data as planted
import throughput_ours as mine
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from features.encode import Layout
from models.batch import Batch
from models.line import Line
from models.lookup import FoldedLookup, How, Lookup, look_up
from models.machine import PRODUCTS, Products, prepare, products_dtype

#: Rows, inner and outer width of the product that sets the rate: as tall as a batch, and wide.
PRODUCT = (4096, 1024, 1024)


def cpu_seconds(acts: Sequence[Callable[[], object]], limit_s: float) -> list[float]:
    """CPU seconds of one call of each, in turns; the least of those within the limit: load only adds."""
    taken: list[list[float]] = [[] for _ in acts]
    began = time.perf_counter()
    while time.perf_counter() - began < limit_s or len(taken[-1]) < 3:
        for act, found in zip(acts, taken, strict=True):
            start = time.process_time()
            act()
            found.append(time.process_time() - start)
    return [min(found) for found in taken]


def product(dtype: torch.dtype) -> Callable[[], object]:
    """One large product."""
    rows, inner, outer = PRODUCT
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, outer).to(dtype)
    return lambda: left @ right


def gather(line: Line, batches: list[Batch]) -> Callable[[], object]:
    """The vectors of a batch, read from the table."""
    table_RD = line.embedding.weight_RD.detach()
    asked = cycle([batch.rows_BF.flatten() for batch in batches])
    return lambda: table_RD.index_select(0, next(asked))


def added(line: Line, found: Lookup, dtype: torch.dtype) -> Callable[[], object]:
    """What all first layers make of the ids of small vocabularies, added up by row."""
    if not isinstance(found, FoldedLookup):
        return lambda: None
    inputs = line.spec.width(line.embedding.weight_RD.shape[1])
    width = sum(p.numel() // inputs for p in line.network.parameters() if inputs in p.shape)
    at_BS, of_id_TW = found.places.at_BS, torch.randn(len(found.places.fold.rows_T), width).to(dtype)
    return lambda: functional.embedding_bag(at_BS, of_id_TW, mode="sum")


def _of_layer(x_BI: Sequence[int], *told: Sequence[int], **named: Sequence[int]) -> int:
    """Of a layer and of one that adds: the result says how wide it is."""
    return 2 * math.prod(x_BI) * named["out_shape"][-1]


def _of_sum(known_BO: object, x_BI: Sequence[int], weight_IO: Sequence[int], **named: object) -> int:
    return 2 * math.prod(x_BI) * weight_IO[1]


#: Products that torch's own counter does not know.
_COUNTED = {torch.ops.aten.addmm_: _of_sum}
if torch._C._has_mkldnn:
    _COUNTED[torch.ops.mkldnn._linear_pointwise] = _of_layer


def operations(act: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in a call."""
    counter = FlopCounterMode(display=False, custom_mapping=_COUNTED)
    with counter:
        act()
    return int(counter.get_total_flops())


def shares(act: Callable[[], object], most: int = 6) -> str:
    """Where the time of a call goes: the operations with the largest own share."""
    with profile(activities=[ProfilerActivity.CPU]) as told:
        for _ in range(3):
            act()
    found = sorted(told.key_averages(), key=lambda one: -one.self_cpu_time_total)
    whole = sum(one.self_cpu_time_total for one in found)
    return ", ".join(
        f"{one.key.removeprefix('aten::')} {one.self_cpu_time_total / whole:.0%}" for one in found[:most]
    )


def encoded(file: Path, batch_rows: int, count: int) -> tuple[list[Batch], Layout]:
    """The first batches of the set, and the layout that they have."""
    encoder = mine.encoder()
    stream = mine.batches(file, encoder, batch_rows)
    batches = [Batch.from_numpy(arrays) for arrays, _ in zip(stream, range(count), strict=False)]
    stream.close()  # type: ignore[attr-defined]
    return batches, encoder.layout


def main() -> None:
    """Print a row per model and dtype: floor and measured time of learning and scoring, µs CPU a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4096, help="rows of a batch")
    parser.add_argument("--limit", type=float, default=6.0, help="seconds per row of the table")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/throughput"), help="for the set")  # noqa: S108
    parser.add_argument("--profile", action="store_true", help="also say where the time goes")
    asked = parser.parse_args()
    prepare()
    file = asked.folder / "floor-100000.parquet"
    planted.write(file, planted.BLOCK, seed=1)
    batches, layout = encoded(file, asked.batch, 16)
    distinct = float(np.mean([len(batch.rows_BF.unique()) for batch in batches])) / asked.batch
    narrow = products_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16
    print(
        f"torch {torch.__version__}, one thread, batches of {asked.batch}, {distinct:.1f} distinct ids a row"
    )
    print("| model | products | step | GFLOP/s | kFLOP a row | floor, µs | ours, µs | floor / ours |")
    print("|" + 8 * " --- |")
    for name in mine.ARCHITECTURES:
        for products in PRODUCTS:
            if narrow or products == "float32":
                measure(name, products, layout, batches, distinct, asked)


def measure(
    name: str,
    products: Products,
    layout: Layout,
    batches: list[Batch],
    distinct: float,
    asked: argparse.Namespace,
) -> None:
    """Print the rows of one model in one dtype."""
    line, turns = mine.line(name, layout, products=products), cycle(batches)
    dtype = torch.bfloat16 if products == "bfloat16" else torch.float32
    fields = len(planted.FIELDS)
    found = look_up(line.embedding, batches[0], How(folds=line.spec))
    read = found.rows.numel() / asked.batch
    # a changed vector is read and written once per batch; row-wise Adagrad keeps one number beside it
    touched = {"learn": read + 2 * distinct, "score": read}
    acts: dict[str, Callable[[], object]] = {
        "learn": lambda: line.learn(next(turns)),
        "score": lambda: line.predict(next(turns)),
    }
    for step, act in acts.items():
        timed = (act, product(dtype), gather(line, batches), added(line, found, dtype))
        step_s, product_s, gather_s, sum_s = cpu_seconds(timed, asked.limit)
        rate, done = 2 * math.prod(PRODUCT) / product_s, operations(act) / asked.batch
        ours = step_s / asked.batch
        sums = sum_s * (2 if step == "learn" else 1) / asked.batch
        floor = done / rate + touched[step] * gather_s / (asked.batch * fields) + sums
        print(
            f"| {name} | {products} | {step} | {rate / 1e9:.0f} | {done / 1e3:.0f} | {floor * 1e6:.1f} "
            f"| {ours * 1e6:.1f} | {floor / ours:.0%} |",
            flush=True,
        )
        if asked.profile:
            print(f"| | | {shares(act)} |")


if __name__ == "__main__":
    main()
