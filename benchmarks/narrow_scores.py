"""What products in bfloat16 do to scores and ranks: the same trained line scores the same pairs in both.

    python benchmarks/narrow_scores.py

On the planted set of ``throughput_data.py``, whose fields are half the user's, half the item's. A line learns
500,000 rows as in ``throughput.py``; then every user is paired with every item, once with products in float32
and once in bfloat16, which a processor without the instructions emulates, slowly. Printed are

* how far pCTCVR moves, relative to its value: median and 99th percentile;
* the same, in standard deviations of its logarithm among the items of a user (root of the mean square);
* the correlation of ranks within a user (Spearman);
* the share of a user's 100 best items that both have in common.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import polars as pl
import throughput_data as planted
import throughput_ours as mine
import throughput_scoring as scoring
import torch

from features.encode import Encoder, Layout
from flows.stages.pairs import product_scores
from models import checkpoint
from models.machine import prepare
from models.native.library import SWITCH

BEST = 100


def scored(model: str, files: dict[str, Path], state: Path) -> pl.DataFrame:
    """Every pair with its pCTCVR and rank in both dtypes."""
    shop = scoring.scenario()
    encoder = Encoder(Layout.of(shop.features), mine.id_map())
    line = mine.line(model, encoder.layout)
    line.restore(checkpoint.load(state)[0])
    product = scoring.product(shop, files)
    told = []
    for dtype in (torch.float32, torch.bfloat16):
        line.products = dtype
        parts = product_scores(line, encoder, product, None)
        told.append(pl.concat(part.select("user_id", "item_id", "pctcvr", "user_rank") for part in parts))
    return told[0].join(told[1], on=["user_id", "item_id"], suffix="_narrow", validate="1:1")


def main() -> None:
    """Print a row per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=500_000, help="that are learned before")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/throughput"), help="for the set")  # noqa: S108
    asked = parser.parse_args()
    os.environ[SWITCH] = "off"  # torch is compared with torch
    prepare()
    files = scoring.prepare(asked.folder, asked.users, asked.items, planted.BLOCK)
    print("| model | median | 99 % | in deviations | rank correlation | of the best in common |")
    print("|" + 6 * " --- |")
    relative = (pl.col("pctcvr_narrow") / pl.col("pctcvr") - 1).abs()
    moved, spread = (pl.col("pctcvr_narrow") / pl.col("pctcvr")).log(), pl.col("pctcvr").log().std()
    by_user = (
        (moved.pow(2).mean().sqrt() / spread).alias("deviations"),
        pl.corr("user_rank", "user_rank_narrow").alias("correlation"),
        ((pl.col("user_rank") <= BEST) & (pl.col("user_rank_narrow") <= BEST)).sum().alias("common") / BEST,
    )
    for model in mine.ARCHITECTURES:
        pairs = scored(model, files, mine.learned(model, asked.folder, asked.rows))
        users = pairs.group_by("user_id").agg(by_user).drop("user_id").mean()
        median, high = pairs.select(relative.median().alias("m"), relative.quantile(0.99).alias("h")).row(0)
        print(
            f"| {model} | {median:.2%} | {high:.2%} | {users['deviations'].item():.4f} "
            f"| {users['correlation'].item():.6f} | {users['common'].item():.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
