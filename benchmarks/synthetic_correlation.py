"""Gain of MMoE and PLE over single-task networks on two regressions whose relation is a dial.

    python benchmarks/synthetic_correlation.py
    python benchmarks/synthetic_correlation.py --dimensions 512 --rows 1400000    # the size of PLE's paper

Generator of MMoE (Ma et al., KDD 2018, section 3.2), with the setting of PLE (Tang et al., RecSys 2020,
section 5.3): ``u_1, u_2`` orthonormal in R^d, ``w_1 = c u_1``, ``w_2 = c (p u_1 + sqrt(1 - p^2) u_2)``, ``x``
standard normal,

``y_k = w_k x + sum_i sin(a_i w_k x + b_i) + e``, ``i`` up to m = 10, ``c = 1``, ``a, b`` standard normal,
noise of variance 0.01, so the best possible squared error is 0.01. p is the cosine of the weights; the
correlation of the labels grows with it.

All networks see the same rows once, in the same order, with the same step sizes. They have equally many
hidden units below the towers: both single-task networks together as many as all experts, so that what is
gained is not mere size (``--narrow``: a single-task network is as wide as one expert, as papers have it). The
gain is how much lower the squared error on fresh rows is than that of the single-task networks, in per cent
of it.

Shapes: B rows, D inputs, K = 2 objectives, S seeds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from independent import Squared, funnel_of
from torch import Tensor

from models.architecture import Architecture
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.line import Line
from models.mmoe import MMoE
from models.ple import PLE
from models.single_task import SingleTask

SINES, NOISE, TEST_ROWS = 10, 0.1, 50_000
CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class Generator:
    """Two functions of one input.

    Attributes:
        weight_DK: ``w`` of every objective.
        sine_M: ``a``.
        phase_M: ``b``.
        seed: of the rows.
    """

    weight_DK: Tensor
    sine_M: Tensor
    phase_M: Tensor
    seed: int

    @classmethod
    def drawn(cls, dimensions: int, correlation: float, seed: int) -> Generator:
        """The functions of a seed; another correlation turns ``w_2`` and changes nothing else."""
        draw = torch.Generator().manual_seed(seed)
        u_D2, _ = torch.linalg.qr(torch.randn(dimensions, 2, generator=draw, dtype=torch.float64))
        turned_D = correlation * u_D2[:, 0] + (1 - correlation**2) ** 0.5 * u_D2[:, 1]
        sine_M, phase_M = (torch.randn(SINES, generator=draw) for _ in range(2))
        return cls(torch.stack((u_D2[:, 0], turned_D), dim=1).float(), sine_M, phase_M, seed)

    def batches(self, rows: int, size: int, *, part: int) -> Iterator[Batch]:
        """Rows in batches; every ``part`` is another stream."""
        draw = torch.Generator().manual_seed(self.seed * 1000 + part)
        for start in range(0, rows, size):
            x_BD = torch.randn(min(size, rows - start), len(self.weight_DK), generator=draw)
            s_BK = x_BD @ self.weight_DK
            sines_BK = torch.sin(s_BK.unsqueeze(2) * self.sine_M + self.phase_M).sum(dim=2)
            y_BK = s_BK + sines_BK + NOISE * torch.randn(s_BK.shape, generator=draw)
            none_B0 = torch.empty(len(x_BD), 0, dtype=torch.int64)
            trains_BK = torch.ones_like(y_BK, dtype=torch.bool)
            yield Batch(none_B0, none_B0, x_BD, torch.ones(len(x_BD)), y_BK, trains_BK)


def networks(chosen: argparse.Namespace) -> dict[str, Callable[..., Architecture]]:
    """Single-task, MMoE, and PLE with as many experts in all, half of them shared, and a level per layer."""
    experts, expert, tower = chosen.experts, tuple(chosen.expert), tuple(chosen.tower)
    own = experts // 4
    single = expert if chosen.narrow else tuple(width * experts // 2 for width in expert)
    return {
        "single-task": partial(SingleTask, layers=(*single, *tower)),
        "MMoE": partial(MMoE, experts=experts, expert=expert, layers=tower),
        "PLE": partial(
            PLE, levels=tuple((w,) for w in expert), own=own, shared=experts - 2 * own, layers=tower
        ),
    }


def squared_error(
    architecture: Callable[..., Architecture], made: Generator, chosen: argparse.Namespace
) -> np.ndarray:
    """Mean squared error on fresh rows after one pass, shape (K,)."""
    line = Line.fresh(
        InputSpec(num_rows=1, num_fields=0, num_dense=chosen.dimensions),
        funnel_of("first", "second"),
        architecture=architecture,
        method=Squared(),
        balancer=Static,
        dim=1,
        dense_rate=chosen.rate,
        embedding_rate=chosen.rate,
        averaging=chosen.averaging,
        seed=made.seed,
    )
    for batch in made.batches(chosen.rows, chosen.batch, part=0):
        line.learn(batch)
    sum_K = torch.zeros(2, dtype=torch.float64)
    for batch in made.batches(TEST_ROWS, 4096, part=1):
        sum_K += (line.predict(batch).conditional_BJ - batch.labels[0]).square().double().sum(dim=0)
    error_K: np.ndarray = (sum_K / TEST_ROWS).numpy()
    return error_K


def shown(gain_SK: np.ndarray) -> str:
    """Mean and, with several seeds, deviation by objective, in per cent."""
    spread_K = gain_SK.std(0, ddof=1) if len(gain_SK) > 1 else np.zeros(gain_SK.shape[1])
    return " | ".join(f"{m:+.1f} ± {s:.1f}" for m, s in zip(gain_SK.mean(0), spread_K, strict=True))


def main() -> None:
    """Print errors and gains by correlation."""
    parser = argparse.ArgumentParser(description="MMoE and PLE over single-task, two regressions.")
    parser.add_argument("--correlations", type=float, nargs="+", default=list(CORRELATIONS), help="p")
    parser.add_argument("--dimensions", type=int, default=64, help="d, inputs (64; PLE's paper 512)")
    parser.add_argument("--rows", type=int, default=200_000, help="rows learned once (200000; paper 1400000)")
    parser.add_argument("--seeds", type=int, default=3, help="functions, rows and initial weights (3)")
    parser.add_argument("--first-seed", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--experts", type=int, default=8, help="of MMoE, and of PLE in all (8)")
    parser.add_argument("--expert", type=int, nargs="+", default=[32, 32], help="widths of an expert (32 32)")
    parser.add_argument("--tower", type=int, nargs="+", default=[32], help="widths of a tower (32)")
    parser.add_argument("--narrow", action="store_true", help="single-task networks as wide as one expert")
    parser.add_argument("--batch", type=int, default=512, help="rows of a step (512)")
    parser.add_argument("--rate", type=float, default=1e-2, help="step size of all networks (0.01)")
    parser.add_argument("--averaging", type=float, default=0.99, help="of the weights (0.99)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    built = networks(chosen)
    print(f"{vars(chosen)}; {os.cpu_count()} cores, torch {torch.__version__}")
    print("| p | single-task error | | MMoE gain, % | | PLE gain, % | |\n|" + " --- |" * 7, flush=True)
    gains: dict[str, list[np.ndarray]] = {"MMoE": [], "PLE": []}
    for correlation in chosen.correlations:
        errors: dict[str, list[np.ndarray]] = {name: [] for name in built}
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            made = Generator.drawn(chosen.dimensions, correlation, seed)
            for name, architecture in built.items():
                errors[name].append(squared_error(architecture, made, chosen))
        single_SK = np.array(errors["single-task"])
        cells = [" | ".join(f"{m:.4f}" for m in single_SK.mean(0))]
        for name, found in gains.items():
            found.append(100 * (1 - np.array(errors[name]) / single_SK))
            cells.append(shown(found[-1]))
        print(f"| {correlation} | {' | '.join(cells)} |", flush=True)
    lowest = min(float(gain_SK.mean(0).min()) for gain_SK in gains["PLE"])
    means = {name: float(np.mean(found)) for name, found in gains.items()}
    print(f"mean gain: MMoE {means['MMoE']:+.1f} %, PLE {means['PLE']:+.1f} %; lowest of PLE {lowest:+.1f} %")
    print(f"CPU s: {time.process_time():.0f}")


if __name__ == "__main__":
    main()
