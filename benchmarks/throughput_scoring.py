"""Pairs scored per CPU second and peak memory: ours against DeepCTR-Torch and torch-rechub.

    python benchmarks/throughput_scoring.py --rounds 3
    python benchmarks/throughput_scoring.py --ways top --models esmm --sides ours --users 50000

The planted set of ``throughput_data.py``: half of its fields and quantities are taken to be the user's, half
the item's. Ours, from Parquet to a Parquet file of scores as the stage "score" writes it:

    joined   rows that come with all their columns
    listed   users, items and a list of pairs, 100 items a user
    product  every user with every item
    top      the 100 best items of every user among all

Peers can only predict joined rows; they read Parquet and write nothing. So a peer's cost of a pair is its
cost of a row in every way. They predict in batches of the size that their own examples use, and in larger
ones, in which they are faster; ratios are to the cheaper peer as its examples use it, and to the cheapest of
all. Models have equal sizes; ours have learned ``--learned`` rows of the planted set before, as a line that
scores a day has, and peers have random weights, which makes no difference to them. Every measurement is a
process of its own with one thread; rounds alternate between the sides, medians of CPU seconds are shown.
Peaks hold the checkpoint that is read before, too; ``--learned 0`` scores with random weights.

Without the peers (``throughput_peers.py`` says how to install them): ``--sides ours``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import throughput_data as planted
from peak import peak_mib

from features.batches import blocks as read_blocks
from features.batches import stretches
from features.candidate_log import from_log
from features.candidates import Product
from features.encode import Encoder, Layout
from features.engine import Limits
from features.parquet import DataFile, pieces
from features.scenario import Scenario
from features.schemas import scores
from features.sides import Division
from features.tables import ROW_GROUP
from features.view import Attributes, View
from flows.stages.pairs import BLOCK, listed_scores, product_scores
from models import checkpoint, machine
from models.line import Line
from models.score import score_arrays

SIDES = ("ours", "DeepCTR-Torch", "torch-rechub")
MODELS = ("esmm", "mmoe", "ple")
WAYS = ("joined", "listed", "product", "top")
PER_USER = 100
#: A side, the way it scores, and rows of a peer's batch.
Kind: TypeAlias = tuple[str, str, int]
_OF = {
    "user": (*planted.FIELDS[:10], *planted.QUANTITIES[:4]),
    "item": (*planted.FIELDS[10:], *planted.QUANTITIES[4:]),
}


def scenario() -> Scenario:
    """The planted set with a view of users and one of items."""
    import throughput_ours as mine

    plain = mine.scenario()
    known = {feature.name: feature for feature in plain.context}
    views = tuple(
        View(
            name=side,
            keys=(f"{side}_id",),
            source=Attributes(source=side),
            features=tuple(known[name] for name in names),
            owner="benchmarks",
            description="planted",
        )
        for side, names in _OF.items()
    )
    return replace(plain, context=(), views=views)


def prepare(folder: Path, users: int, items: int, rows: int) -> dict[str, Path]:
    """Files of joined rows, users, items, and listed pairs."""
    joined = planted.write(folder / f"rows-{rows}.parquet", rows, seed=1)
    found = {"joined": joined}
    for side, count, first in (("user", users, 10**9), ("item", items, 2 * 10**9)):
        path = folder / f"{side}-{count}.parquet"
        if not path.exists():
            whole = -(-count // planted.BLOCK) * planted.BLOCK
            frame = pl.concat(planted.blocks(whole, 1, first)).head(count).select(_OF[side])
            frame.with_row_index(f"{side}_id").with_columns(
                pl.col(f"{side}_id").cast(pl.Int64)
            ).write_parquet(path, row_group_size=ROW_GROUP)
        found[side] = path
    found["listed"] = folder / f"listed-{users}-{items}.parquet"
    if not found["listed"].exists():
        rng = np.random.default_rng(0)
        some = min(users, rows // PER_USER)
        item = np.concatenate([rng.choice(items, PER_USER, replace=False) for _ in range(some)])
        listed = {"user_id": np.repeat(np.arange(some), PER_USER), "item_id": item}
        pl.DataFrame(listed).with_columns(pl.lit("r").alias("request_id")).write_parquet(found["listed"])
    return found


def ours(way: str, model: str, files: dict[str, Path], state: Path | None) -> dict[str, float]:
    """Read, encode, score and write, with the weights of a checkpoint if there is one."""
    import throughput_ours as mine

    shop = scenario()
    encoder = Encoder(Layout.of(shop.features), mine.id_map())
    line = mine.line(model, encoder.layout)
    if state is not None:
        line.restore(checkpoint.load(state)[0])
    with tempfile.TemporaryDirectory() as folder, _Meter() as meter:
        out = Path(folder) / "scores.parquet"
        with DataFile(out, scores(shop), "") as file:
            for piece in pieces(_scored(way, line, encoder, shop, files), scores(shop), "benchmark"):
                file.write(piece)
        size = out.stat().st_size
    considered = {
        "joined": file.rows,
        "listed": file.rows,
        **dict.fromkeys(("product", "top"), _height(files["user"]) * _height(files["item"])),
    }
    return meter.found | {"pairs": considered[way], "written": file.rows, "bytes": size}


def _scored(
    way: str, line: Line, encoder: Encoder, shop: Scenario, files: dict[str, Path]
) -> Iterator[pl.DataFrame]:
    names = scores(shop).schema.names
    nothing = pl.lit(None, dtype=pl.Float32())  # of a line that is not calibrated
    of_all = (
        pl.lit("v").alias("model_version"),
        pl.lit(None, dtype=pl.String()).alias("calibrator_version"),
        pl.lit(0).cast(pl.Datetime("us")).alias("features_as_of"),
        *(nothing.alias(column.calibrated) for column in shop.funnel.probabilities),
    )
    if way == "joined":
        blocks = _joined(line, encoder, files["joined"])
    elif way == "listed":
        limits = Limits(memory="1GB", threads=1, scratch=files["listed"].parent)
        listed = from_log([files["listed"]], shop, snapshots_of(files), limits, BLOCK)
        blocks = listed_scores(line, encoder, listed, None)
    else:
        top = PER_USER if way == "top" else None
        blocks = product_scores(line, encoder, product(shop, files), top)
    return (block.with_columns(*of_all).select(names) for block in blocks)


def snapshots_of(files: dict[str, Path]) -> dict[str, pl.LazyFrame | None]:
    """What is known of users and of items."""
    return {side: pl.scan_parquet(files[side]) for side in _OF}


def product(shop: Scenario, files: dict[str, Path]) -> Product:
    """All users with all items."""
    known = snapshots_of(files)
    division = Division.of(shop, user=["user_id"], item=["item_id"])
    users, items = (pl.scan_parquet(files[side]).select(f"{side}_id") for side in _OF)
    return Product(division, known, users.collect(), division.complete("item", items, known).collect())


def _joined(line: Line, encoder: Encoder, file: Path) -> Iterator[pl.DataFrame]:
    read = 0
    for frame in read_blocks(stretches(pl.scan_parquet(file)), BLOCK):
        arrays = encoder.encode(frame)
        row = pl.int_range(read, read + frame.height, eager=True)
        yield pl.DataFrame(
            {
                "user_id": row,
                "item_id": row,
                "request_id": pl.repeat(None, frame.height, dtype=pl.String(), eager=True),
                **score_arrays(line, arrays),
            }
        ).with_columns(
            pl.lit(1, dtype=pl.Int32).alias("user_rank"),
            *(pl.lit(False).alias(f"unknown_{side}") for side in _OF),
        )
        read += frame.height


def peer(side: str, model: str, files: dict[str, Path], batch: int) -> dict[str, float]:
    """A peer's own loop over joined rows, in batches of so many; 0: as its examples."""
    from throughput_peers import PEERS, quiet

    with quiet():
        made = PEERS[side](model, files["joined"])
        with _Meter() as meter:
            found = made.predict(files["joined"], batch or made.documented)
    return meter.found | {"pairs": len(found)}


class _Meter:
    """CPU and wall seconds inside of it, and the peak of the process so far at its end."""

    found: dict[str, float]

    def __enter__(self) -> _Meter:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self.found = {
            "cpu_s": time.process_time() - self._cpu,
            "wall_s": time.perf_counter() - self._wall,
            "peak_mib": peak_mib(),
        }


def _height(file: Path) -> int:
    return int(pl.scan_parquet(file).select(pl.len()).collect().item())


def main() -> None:
    """Measure what is asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=200_000, help="joined rows, and listed pairs at most")
    parser.add_argument("--learned", type=int, default=500_000, help="rows that ours have learned before")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument(
        "--batches", nargs="+", type=int, default=(0, 4096), help="rows of a peer's; 0: as its examples"
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/throughput"), help="for the set")  # noqa: S108
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    machine.prepare()
    files = prepare(asked.folder, asked.users, asked.items, asked.rows)
    states: dict[str, Path | None] = dict.fromkeys(asked.models)
    if asked.learned and "ours" in asked.sides:
        import throughput_ours as mine

        states = {model: mine.learned(model, asked.folder, asked.learned) for model in asked.models}
    if asked.one:
        (side,), (model,), (way,) = asked.sides, asked.models, asked.ways
        own = side == "ours"
        found = ours(way, model, files, states[model]) if own else peer(side, model, files, *asked.batches)
        print(json.dumps(found))
        return
    for model in asked.models:
        kinds: list[Kind] = [("ours", way, 0) for way in asked.ways] if "ours" in asked.sides else []
        kinds += [(side, "joined", rows) for side in asked.sides if side != "ours" for rows in asked.batches]
        runs: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(asked.rounds):
            for kind in kinds:
                runs[kind].append(_child(model, *kind))
        _print(model, runs)


def _child(model: str, side: str, way: str, batch: int) -> dict[str, Any]:
    """The same command for one measurement, in a process of its own."""
    told = [sys.executable, *sys.argv, "--one", "--sides", side, "--models", model, "--ways", way]
    told += ["--batches", str(batch)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    done = subprocess.run(told, env=os.environ | threads, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(model: str, runs: dict[Kind, list[dict[str, Any]]]) -> None:
    cost = {
        kind: statistics.median(run["cpu_s"] / run["pairs"] for run in found) for kind, found in runs.items()
    }
    of_peers = {kind: one for kind, one in cost.items() if kind[0] != "ours"}
    documented = min((one for (_, _, rows), one in of_peers.items() if not rows), default=float("nan"))
    best = min(of_peers.values(), default=float("nan"))
    for kind, found in runs.items():
        side, way, rows = kind
        told = way if side == "ours" else f"batches of {rows}" if rows else "as its examples"
        micro, peak = cost[kind] * 1e6, max(run["peak_mib"] for run in found)
        spread = " ".join(f"{run['cpu_s'] / run['pairs'] * 1e6:.2f}" for run in found)
        size = found[-1]["bytes"] / found[-1]["written"] if "bytes" in found[-1] else float("nan")
        print(
            f"| {model} | {side}, {told} | {found[-1]['pairs']:,} | {micro:.2f} ({spread}) "
            f"| {1e3 / micro:.0f} | {documented / cost[kind]:.1f}, {best / cost[kind]:.1f} "
            f"| {peak:.0f} | {size:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
