"""What a training step and a scoring step cost on the processor and on the GPU, for rows that are encoded.

Reading and encoding are not part of it: `throughput.py` counts them. Without a GPU there are rows for the
processor alone.

    python benchmarks/device_step.py --batches 4096 65536
"""

from __future__ import annotations

import argparse
import platform
import time
from datetime import timedelta
from functools import partial

import numpy as np
import torch

from features.funnel import Funnel, Objective
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.entire_space.esmm import ESMM
from models.line import Line
from models.mmoe import MMoE
from models.ple import PLE
from models.towers import Towers

FIELDS, DENSE, DIM = 20, 8, 16
ARCHITECTURES = {
    "esmm": partial(Towers, layers=(256, 128)),
    "mmoe": partial(MMoE, experts=3, expert=(256, 128), layers=(64,)),
    "ple": partial(PLE, levels=((256, 128), (256, 128)), own=1, shared=1, layers=(64,)),
}
FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(hours=1)),
        Objective(name="conversion", log="conversion", given="click", window=timedelta(days=1)),
    ),
    click="click",
    conversion="conversion",
)


def batch(rows: int, table_rows: int, seed: int) -> Batch:
    """Rows whose ids are drawn evenly: the hardest case for the table."""
    draw = np.random.default_rng(seed)
    y_BK = (draw.random((rows, 2)) < (0.2, 0.5)).astype(np.float32)
    y_BK[:, 1] *= y_BK[:, 0]
    return Batch.from_numpy(
        {
            "rows": draw.integers(1, table_rows, (rows, FIELDS)),
            "bag_rows": np.zeros((rows, 0), dtype=np.int64),
            "dense": draw.standard_normal((rows, DENSE)).astype(np.float32),
            "y": y_BK,
            "trains": np.ones((rows, 2), dtype=np.bool_),
            "weight": np.ones(rows, dtype=np.float32),
        }
    )


def seconds(line: Line, batches: list[Batch], limit_s: float) -> tuple[float, float]:
    """Wall seconds of one training step and one scoring step, the median of those within the limit."""
    found = []
    for step in (line.learn, line.predict):
        taken: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < limit_s or len(taken) < 4:
            _wait(line.device)
            start = time.perf_counter()
            step(batches[len(taken) % len(batches)])
            _wait(line.device)
            taken.append(time.perf_counter() - start)
        # the first steps also fill caches and choose kernels
        found.append(float(np.median(taken[2:])))
    return found[0], found[1]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print a row per model, batch size, device and dtype of the products."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[4096, 65536], help="rows of a batch")
    parser.add_argument("--table-rows", type=int, default=1_000_000, help="rows of the embedding table")
    parser.add_argument("--limit", type=float, default=3.0, help="seconds per figure")
    parser.add_argument("--threads", type=int, default=1, help="threads of the processor")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    places = [(torch.device("cpu"), torch.float32)]
    if torch.cuda.is_available():
        gpu = torch.device("cuda", torch.cuda.current_device())
        places += [(gpu, torch.float32), (gpu, torch.bfloat16)]
        print(torch.cuda.get_device_name(gpu))
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} thread(s) of the processor")
    print(f"{'model':6} {'batch':>6} {'device':8} {'products':9} {'learn, rows/s':>14} {'score, rows/s':>14}")
    spec = InputSpec(arguments.table_rows, FIELDS, (), DENSE)
    for rows in arguments.batches:
        batches = [batch(rows, arguments.table_rows, seed) for seed in range(4)]
        for name, architecture in ARCHITECTURES.items():
            for device, products in places:
                line = Line.fresh(
                    spec,
                    FUNNEL,
                    architecture=architecture,
                    method=ESMM(),
                    balancer=Static,
                    dim=DIM,
                    dense_rate=1e-3,
                    embedding_rate=1e-3,
                    products=products,
                    seed=1,
                    device=device,
                )
                learn_s, score_s = seconds(line, batches, arguments.limit)
                kind = str(products).removeprefix("torch.")
                figures = f"{rows / learn_s:14,.0f} {rows / score_s:14,.0f}"
                print(f"{name:6} {rows:6} {device.type:8} {kind:9} {figures}", flush=True)


if __name__ == "__main__":
    main()
