"""Candidates as plain rows: what scoring knows of their users, items and pairs, side by side."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from features.candidate_log import Block, Listed, from_log
from features.candidates import Product
from features.engine import Limits
from features.scenario import Scenario
from features.sides import Snapshots


def log_of(
    rows: pl.LazyFrame, scenario: Scenario, snapshots: Snapshots, folder: Path, block_rows: int
) -> Listed:
    """The candidates log that holds these rows, written in two files below a folder."""
    whole, files = rows.collect(), [folder / "one.parquet", folder / "other.parquet"]
    half = whole.height // 2
    whole.head(half).write_parquet(files[0])
    whole.slice(half).write_parquet(files[1])
    limits = Limits(memory="200MB", threads=1, scratch=folder / "scratch")
    return from_log(files, scenario, snapshots, limits, block_rows)


def joined(found: Product | Listed) -> pl.DataFrame:
    """Every pair with all that is known of it, on whichever side it is."""
    if isinstance(found, Listed):
        return pl.concat(joined_block(block, found.items) for block in found.blocks)
    users = found.users(range(found.members.height))
    pairs = found.pairs(users, range(found.items.height))
    for key, side in (("user_id", users), ("item_id", found.items)):
        others = [name for name in side.columns if name == key or name not in pairs.columns]
        pairs = pairs.join(side.select(others), on=key, how="left", maintain_order="left")
    return pairs


def joined_block(block: Block, items: pl.DataFrame) -> pl.DataFrame:
    """The same of a block of listed pairs; their users and items are taken by their places."""
    pairs = block.pairs.drop("user_place", "item_place")
    for key, side in (("user", block.users), ("item", items)):
        own = side[block.pairs[f"{key}_place"]]
        assert own[f"{key}_id"].equals(pairs[f"{key}_id"], null_equal=True)
        pairs = pairs.hstack(own.select(name for name in own.columns if name not in pairs.columns))
    return pairs
