"""The same historical retrieval by Feast, by hand-written ASOF SQL and by ours: time and memory as ratios.

    python benchmarks/point_in_time.py --folder FOLDER --rows 1000000 [--rounds 3] [--feast-python PYTHON]
    python benchmarks/point_in_time.py --folder FOLDER --rows 20000000 --only "ours, streaming"

Impressions (user, item, category, seller, instant; 3 % unknown keys) are joined with four views of 1.44 M,
0.58 M, 1.44 M and 58 k versions and 6, 6, 3 and 3 features. Versions arrive 1 to 6 hours after their event,
1 % come a second time with other values. Everyone answers with what had happened and had arrived by the
impression, at most 7 days old. Feast reads the history as it was logged, as it must; the others read files
stored as-of ready, and making those is timed once.

Feast needs an environment of its own, with ``feast[duckdb]==0.67.*``; without ``--feast-python`` it is left
out. Runs alternate, each in its own process after a small warm-up in it; the first round is discarded, after
its answers were compared cell by cell. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from point_in_time_peers import AT, FEATURES, PEERS, VIEWS, history_file, ready_file

from features.as_of_ready import as_of_ready

T0 = datetime(2026, 1, 1)
DAYS, USERS, ITEMS, SELLERS, CATEGORIES, PER_USER = 30, 48_000, 19_333, 1_933, 20, 6
HOUR, DAY = 3_600_000_000, 86_400_000_000
UNKNOWN = 10**12
BLOCK = 1_000_000


def write_history(folder: Path) -> None:
    """Histories of the four views, shuffled, and the same as-of ready."""
    draw = np.random.default_rng(7)
    users = np.arange(USERS) * 7 + 1
    categories = draw.permuted(np.tile(np.arange(CATEGORIES), (USERS, 1)), axis=1)[:, :PER_USER].ravel()
    entities = {
        "user_daily": ([users], DAYS, DAY),
        "item_daily": ([np.arange(ITEMS)], DAYS, DAY),
        "user_cat_weekly": ([np.repeat(users, PER_USER), categories], DAYS // 7 + 1, 7 * DAY),
        "seller_daily": ([np.arange(SELLERS)], DAYS, DAY),
    }
    for view, (keys, versions, apart) in entities.items():
        entity = np.repeat(np.arange(len(keys[0])), versions)
        event = np.tile(np.arange(versions) * apart, len(keys[0]))
        arrival = event + draw.integers(HOUR, 6 * HOUR, len(event))
        again = np.flatnonzero(draw.random(len(event)) < 0.01)
        later = np.append(np.zeros(len(event), np.int64), draw.integers(1, 12 * HOUR, len(again)))
        order = draw.permutation(len(later))
        place = np.append(np.arange(len(event)), again)[order]
        frame = pl.DataFrame(
            {
                **{name: key[entity[place]] for name, key in zip(VIEWS[view].keys, keys, strict=True)},
                "event_time": event[place],
                "arrived_at": arrival[place] + later[order],
                **{name: draw.standard_normal(len(place)) for name in FEATURES[view]},
            }
        ).with_columns(pl.col("event_time", "arrived_at").cast(pl.Duration("us")) + pl.lit(T0))
        frame.write_parquet(history_file(folder, view))


def write_ready(folder: Path) -> None:
    """Store each view as-of ready."""
    for view, shape in VIEWS.items():
        as_of_ready(
            pl.scan_parquet(history_file(folder, view)),
            keys=shape.keys,
            event_time="event_time",
            arrived_at="arrived_at",
            fields=FEATURES[view],
        ).sink_parquet(ready_file(folder, view))


def write_rows(file: Path, count: int) -> None:
    """Impressions in blocks, so that 20 M of them need no more memory than one."""
    draw = np.random.default_rng(count)
    users = np.arange(USERS) * 7 + 1

    def block(first: int) -> pl.DataFrame:
        size = min(BLOCK, count - first)

        def pick(pool: np.ndarray) -> np.ndarray:
            return np.where(draw.random(size) < 0.03, UNKNOWN, pool[draw.integers(0, len(pool), size)])

        return pl.DataFrame(
            {
                "impression_id": np.arange(first, first + size),
                "user_id": pick(users),
                "item_id": pick(np.arange(ITEMS)),
                "category_id": draw.integers(0, CATEGORIES, size),
                "seller_id": pick(np.arange(SELLERS)),
                AT: draw.integers(0, DAYS * DAY, size),
            }
        ).with_columns(pl.col(AT).cast(pl.Duration("us")) + pl.lit(T0))

    parts = file.with_suffix("")
    parts.mkdir(exist_ok=True)
    for n, first in enumerate(range(0, count, BLOCK)):
        block(first).write_parquet(parts / f"{n:04}.parquet")
    pl.scan_parquet(parts / "*.parquet").sink_parquet(file)


def measure(python: str, peer: str, folder: Path, rows: Path, answer: Path | None) -> dict[str, float]:
    """Figures of one run in a process of its own."""
    script = Path(__file__).with_name("point_in_time_peers.py")
    words = [python, str(script), peer, str(folder), str(rows), *([str(answer)] if answer else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(answers: Mapping[str, Path]) -> None:
    """Exit if two peers differ in any cell."""
    features = [name for names in FEATURES.values() for name in names]
    first, *others = answers
    wanted = pl.read_parquet(answers[first], columns=["impression_id", *features]).sort("impression_id")
    for peer in others:
        found = pl.read_parquet(answers[peer], columns=["impression_id", *features]).sort("impression_id")
        differing = [name for name in features if not wanted[name].equals(found[name])]
        if len(found) != len(wanted) or differing:
            raise SystemExit(f"{first} and {peer} differ: {len(wanted)} and {len(found)} rows, {differing}")
        print(f"{first} = {peer} in {wanted.height * len(features):,} cells", flush=True)
    null = {name: f"{wanted[name].null_count() / len(wanted):.1%}" for name in features[::6]}
    print(f"null shares: {null}", flush=True)


def prepared(folder: Path, count: int) -> Path:
    """The file of impressions; makes what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not ready_file(folder, "seller_daily").exists():
        write_history(folder)
        cpu = time.process_time()
        write_ready(folder)
        print(f"stored as-of ready, once: {time.process_time() - cpu:.1f} CPU s", flush=True)
    for size in (1000, count):
        file = folder / f"rows-{size}.parquet"
        if not file.exists():
            write_rows(file, size)
    return folder / f"rows-{count}.parquet"


def main() -> None:
    """Prepare, run alternately, compare, print."""
    parser = argparse.ArgumentParser(description="Point-in-time retrieval: Feast, ASOF SQL, ours.")
    parser.add_argument("--folder", type=Path, required=True, help="for data, some GB at 20 M rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--feast-python", help="Python of an environment with feast[duckdb]")
    parser.add_argument("--only", action="append", choices=list(PEERS), help="default: all")
    asked = parser.parse_args()
    rows = prepared(asked.folder.absolute(), asked.rows)
    folder = rows.parent
    peers = list(asked.only or PEERS)
    if "feast" in peers and asked.feast_python is None:
        print("feast is left out: no --feast-python was given")
        peers.remove("feast")
    python = {peer: asked.feast_python if peer == "feast" else sys.executable for peer in peers}

    runs: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    answers = {peer: folder / f"answer-{n}.parquet" for n, peer in enumerate(peers)}
    for round_ in range(asked.rounds + 1):
        for peer in peers[round_ % len(peers) :] + peers[: round_ % len(peers)]:
            answer = answers[peer] if round_ == 0 else None
            figures = measure(python[peer], peer, folder, rows, answer)
            if round_:
                runs[peer].append(figures)
        if round_ == 0:
            if "ours, streaming" in answers:
                answers["ours, streaming"] = folder / "streamed.parquet"
            if len(answers) > 1:
                compare(answers)
    middle = {
        peer: {name: median(run[name] for run in found) for name in ("cpu", "wall", "peak")}
        for peer, found in runs.items()
    }
    base = middle.get("ours") or middle[peers[-1]]
    print(f"\n{asked.rows:,} impressions, {len(FEATURES)} views: s, s, MiB; in brackets, ours = 1")
    for peer, found in middle.items():
        shown = "  ".join(
            f"{name} {found[name]:8.2f} ({found[name] / base[name]:5.2f})" for name in ("cpu", "wall", "peak")
        )
        print(f"  {peer:<16} {shown}")


if __name__ == "__main__":
    main()
