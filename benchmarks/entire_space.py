"""Entire-space methods on planted funnels whose pCTR and pCVR are known, and clicks select conversions.

    python benchmarks/entire_space.py
    python benchmarks/entire_space.py --selection 0 --only BASE ESMM    # nothing is selected

``planted_funnel.py`` says what the funnel is and what the dials mean. Every row of ``entire_space_lines.py``
learns the same impressions once, in the same order, and is then held to fresh impressions of the same world.
All figures are against the truth: a fresh impression counts as a conversion with its true pCVR and as none
with the rest, so that no draw of a rare event blurs them.

- AUC of pCVR on clicked impressions (what a log could tell), over all impressions, and of pCTCVR;
- log loss of pCVR over all impressions, less that of the truth itself, in thousandths;
- calibration: the sum of pCVR over all impressions through the sum of the truth.

A world is a seed: users, items, impressions and initial weights. Means and standard deviations over worlds
are printed, and paired differences with a 95 % interval (Student's t over worlds). Step sizes and settings
were chosen by ``--tune``: the best AUC of pCVR on clicked impressions of worlds that are not reported.

Shapes: N impressions, B rows of a batch, K = 2 objectives, W worlds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from entire_space_lines import CLICK, CONVERSION, DIM, RATES, ROWS, TRIED, Row
from entire_space_table import aims, shown
from independent import funnel_of
from planted_funnel import Dials, Impressions, World

from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.line import Line
from models.score import score_arrays

BATCH, WINDOW, AVERAGING, TUNING_WORLD = 512, 65_536, 0.998, 1000
FUNNEL = funnel_of(CLICK, CONVERSION)


@dataclass(frozen=True, eq=False)
class Part:
    """Impressions as a log has them, and what is true of them.

    Attributes:
        rows: columns that a sampling policy reads, the ids, and the true pCTR.
        true: the impressions.
    """

    rows: pl.DataFrame
    true: Impressions

    @classmethod
    def of(cls, true: Impressions) -> Part:
        """The log of impressions: a conversion is seen where it was clicked."""
        columns = {
            "impression_id": np.arange(len(true)),
            "user": 1 + true.user_N,
            "item": 1 + true.item_N,
            "pctr": true.pctr_N,
            FUNNEL[CLICK].label: true.clicked_N.astype(np.int8),
            FUNNEL[CONVERSION].label: (true.clicked_N & true.converts_N).astype(np.int8),
        }
        masks = {f"trains_{name}": np.ones(len(true), dtype=np.bool_) for name in FUNNEL.names}
        return cls(pl.DataFrame(columns | masks), true)


def arrays_of(rows: pl.DataFrame, dials: Dials, *, known: bool = False) -> dict[str, np.ndarray]:
    """Rows as a model reads them; items come behind the users in the table of embeddings."""
    ids = np.stack((rows["user"].to_numpy(), dials.users + rows["item"].to_numpy()), axis=1)
    labels, masks = ([f"{kind}_{name}" for name in FUNNEL.names] for kind in ("y", "trains"))
    weight_N = rows["pctr"].to_numpy() if known else np.ones(len(rows))
    none = np.empty((len(rows), 0))
    return {
        "rows": ids,
        "bag_rows": none.astype(np.int64),
        "dense": none.astype(np.float32),
        "y": rows.select(labels).to_numpy().astype(np.float32),
        "trains": np.ascontiguousarray(rows.select(masks).to_numpy()),
        "weight": weight_N.astype(np.float32),
    }


def batches(part: Part, dials: Dials, row: Row, seed: int, pctr: np.ndarray | None) -> Iterator[Batch]:
    """What a row learns, shuffled within windows after its sampling.

    Args:
        part: impressions to learn.
        dials: of the world.
        row: the row.
        seed: of sampling and shuffle.
        pctr: learned before, for policies that ask for it, by place in ``part``.
    """
    draw = np.random.default_rng(seed)
    for window in part.rows.iter_slices(WINDOW):
        sampled = row.sampling.sample(
            window,
            FUNNEL,
            seed=seed,
            propensity=None if pctr is None else lambda rows, _: pl.Series(pctr[rows["impression_id"]]),
        )
        arrays = arrays_of(sampled, dials, known=row.known)
        order = draw.permutation(len(sampled))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            yield Batch.from_numpy({name: array.take(chosen, axis=0) for name, array in arrays.items()})


def learned(part: Part, dials: Dials, row: Row, seed: int, pctr: np.ndarray | None = None) -> Line:
    """A line after one pass."""
    line = Line.fresh(
        InputSpec(1 + dials.users + dials.items, 2),
        FUNNEL,
        architecture=row.architecture,
        method=row.method,
        balancer=Static,
        dim=DIM,
        dense_rate=row.rate,
        embedding_rate=row.rate,
        averaging=AVERAGING,
        negative_rates=row.sampling.negative_rates(FUNNEL),
        seed=seed,
    )
    for batch in batches(part, dials, row, seed, pctr):
        line.learn(batch)
    return line


def expected_auc(p_N: np.ndarray, weight_N: np.ndarray, other_N: np.ndarray) -> float:
    """Chance that a row drawn by ``weight`` is scored above one drawn by ``other``, ties counting half."""
    _, place_N = np.unique(p_N, return_inverse=True)
    weight_T, other_T = (np.bincount(place_N, weights=w) for w in (weight_N, other_N))
    below_T = np.cumsum(other_T) - other_T / 2
    return float(weight_T @ below_T / weight_T.sum() / other_T.sum())


def scores_of(line: Line, part: Part, dials: Dials) -> dict[str, np.ndarray]:
    """What a line publishes of every impression."""
    arrays = arrays_of(part.rows, dials)
    return score_arrays(line, {name: arrays[name] for name in ("rows", "bag_rows", "dense")})


def figures(line: Line, part: Part, dials: Dials) -> dict[str, float]:
    """By name, how a line stands to the truth."""
    scores = scores_of(line, part, dials)
    joint, pcvr = (scores[name].astype(np.float64) for name in ("pctcvr", "pcvr"))
    true, clicked = part.true, part.true.clicked_N
    q_N, joint_N = true.pcvr_N, true.pctr_N * true.pcvr_N
    p_N = pcvr.clip(1e-7, 1 - 1e-7)
    excess_N = q_N * np.log(q_N / p_N) + (1 - q_N) * np.log((1 - q_N) / (1 - p_N))
    return {
        "clicks": 100 * expected_auc(pcvr[clicked], q_N[clicked], 1 - q_N[clicked]),
        "all": 100 * expected_auc(pcvr, q_N, 1 - q_N),
        "joint": 100 * expected_auc(joint, joint_N, 1 - joint_N),
        "loss": 1000 * float(excess_N.mean()),
        "calibration": float(pcvr.mean() / q_N.mean()),
    }


def world_of(dials: Dials, number: int, rows: int, test: int) -> tuple[Part, Part]:
    """Impressions to learn, and fresh ones, of one world."""
    world = World(dials, number)
    return Part.of(world.impressions(rows, part=0)), Part.of(world.impressions(test, part=1))


def pctr_of(part: Part, dials: Dials, seed: int) -> np.ndarray:
    """What BASE says of the clicks that it learned: UNBIAS rejects by it."""
    return scores_of(learned(part, dials, ROWS["BASE"], seed), part, dials)["pctr"]


def measured(
    dials: Dials, rows: Mapping[str, Row], worlds: Sequence[int], sizes: tuple[int, int]
) -> dict[str, list[dict[str, float]]]:
    """Figures by row and world."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for number in worlds:
        part, fresh = world_of(dials, number, *sizes)
        asked = any(row.sampling.needs_propensity for row in rows.values())
        pctr = pctr_of(part, dials, number) if asked else None
        for name, row in rows.items():
            found[name].append(figures(learned(part, dials, row, number, pctr), fresh, dials))
            print(f"world {number}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def tuned(dials: Dials, names: Sequence[str], worlds: int, sizes: tuple[int, int]) -> None:
    """Print the figures of every setting and step size in worlds that are not reported."""
    for name in names:
        settings = (ROWS[name], *TRIED.get(name, ()))
        tried = {
            f"{name}, setting {n}, rate {rate:g}": replace(row, rate=rate)
            for n, row in enumerate(settings)
            for rate in RATES
        }
        found = measured(dials, tried, range(TUNING_WORLD, TUNING_WORLD + worlds), sizes)
        for said, runs in found.items():
            means = {figure: np.mean([run[figure] for run in runs]) for figure in runs[0]}
            print(said, " ".join(f"{figure} {mean:.3f}" for figure, mean in means.items()), flush=True)


def told(part: Part) -> str:
    """What a world looks like, and the AUC that the truth has."""
    true = part.true
    q_N, c_N = true.pcvr_N, true.pctr_N
    clicked, seen = (c_N * q_N).sum() / c_N.sum(), (true.clicked_N & true.converts_N).sum()
    return (
        f"CTR {c_N.mean():.3f}, CVR {clicked:.4f} of clicked and {q_N.mean():.4f} of all impressions; "
        f"{seen} conversions are seen; the AUC of the truth is {100 * expected_auc(q_N, q_N, 1 - q_N):.2f}"
    )


def main() -> None:
    """Print the table and how the aims are met."""
    parser = argparse.ArgumentParser(description="Entire-space methods on funnels whose truth is known.")
    parser.add_argument("--users", type=int, default=4000, help="of a world (4000)")
    parser.add_argument("--items", type=int, default=800, help="of a world (800)")
    parser.add_argument("--rows", type=int, default=400_000, help="impressions to learn (400000)")
    parser.add_argument("--test", type=int, default=200_000, help="fresh impressions (200000)")
    parser.add_argument("--click", type=float, default=-2.0, help="logit of an average click (-2)")
    parser.add_argument("--buy", type=float, default=-3.5, help="logit of an average conversion (-3.5)")
    parser.add_argument("--spread", type=float, default=1.0, help="deviation of both logits (1)")
    parser.add_argument("--selection", type=float, nargs="+", default=[0.4], help="correlation of both (0.4)")
    parser.add_argument("--affinity", type=float, default=0.02, help="share of a pair's own in it (0.02)")
    parser.add_argument("--tail", type=float, default=0.0, help="exponent of the items' popularity (0)")
    parser.add_argument("--worlds", type=int, default=5, help="seeds (5)")
    parser.add_argument("--first-world", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), help="rows of the table")
    parser.add_argument("--quick", action="store_true", help="two worlds of a fifth of the size")
    parser.add_argument("--tune", action="store_true", help="settings on worlds that are not reported")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.quick:
        chosen.worlds = 2
        for size in ("users", "items", "rows", "test"):
            setattr(chosen, size, getattr(chosen, size) // 5)
    print(f"{vars(chosen)}; {os.cpu_count()} cores, torch {torch.__version__}")
    sizes = (chosen.rows, chosen.test)
    for selection in chosen.selection:
        dials = Dials(
            users=chosen.users,
            items=chosen.items,
            click=chosen.click,
            buy=chosen.buy,
            spread=chosen.spread,
            selection=selection,
            affinity=chosen.affinity,
            tail=chosen.tail,
        )
        if chosen.tune:
            tuned(dials, chosen.only, chosen.worlds, sizes)
            continue
        worlds = range(chosen.first_world, chosen.first_world + chosen.worlds)
        print(f"\nselection {selection}: {told(world_of(dials, worlds[0], *sizes)[0])}\n", flush=True)
        found = measured(dials, {name: ROWS[name] for name in chosen.only}, worlds, sizes)
        for line in (*shown(found), "", *aims(found)):
            print(line)
    print(f"CPU s: {time.process_time():.0f}")


if __name__ == "__main__":
    main()
