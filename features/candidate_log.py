"""The pairs of a candidates log: their items once, then their users and themselves block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.engine import Limits, connect
from features.scenario import Scenario
from features.sides import Division, Snapshots


@dataclass(frozen=True)
class Block:
    """Pairs of some users, all that the log has of them.

    Attributes:
        users: a row per user that occurs, with its features.
        pairs: a row per pair, ordered by user, request and item: ``user_id``, ``item_id``, ``request_id``,
            context and features of the pair, and the places of its user in ``users`` and of its item in
            ``Listed.items`` (``user_place``, ``item_place``, int64).
    """

    users: pl.DataFrame
    pairs: pl.DataFrame


@dataclass(frozen=True)
class Listed:
    """Pairs of a candidates log.

    Attributes:
        division: which feature belongs to whom.
        items: a row per item that occurs, with its features, ordered by id.
        blocks: of the pairs, in their order; to be read once.
    """

    division: Division
    items: pl.DataFrame
    blocks: Iterator[Block]


def from_log(
    files: Sequence[Path], scenario: Scenario, snapshots: Snapshots, limits: Limits, block_rows: int
) -> Listed:
    """The pairs of a candidates log, in blocks of whole users, ordered by user, request and item.

    DuckDB sorts them within its limits and spills the rest, so memory grows with the items of the log alone.
    What views say of items is read once, of users where the users of a block lie.

    Args:
        files: with ``user_id``, ``item_id``, ``request_id`` and context columns.
        scenario: declares context and views.
        snapshots: per view, the snapshot valid at the start of the scored day.
        limits: of DuckDB.
        block_rows: rows of a block, give or take one user's.
    """
    division = Division.of(scenario, user=["user_id"], item=["item_id"])
    requested = pl.scan_parquet(list(files), glob=False, hive_partitioning=False)
    distinct = requested.select("item_id").unique().collect(engine="streaming").sort("item_id")
    items = division.complete("item", distinct.lazy(), snapshots).collect()
    read = {"user_id", "item_id", "request_id", *scenario.brought}
    columns = [name for name in requested.collect_schema().names() if name in read]
    by_user = _by_user(files, columns, distinct.with_row_index("item_place"), limits, block_rows)
    blocks = (_block(rows, items, division, snapshots) for rows in _whole_users(by_user))
    return Listed(division, items, blocks)


def _by_user(
    files: Sequence[Path], columns: Sequence[str], items: pl.DataFrame, limits: Limits, block_rows: int
) -> Iterator[pl.DataFrame]:
    """The rows of the log with ``item_place``, user by user, a block at a time; nobody comes first."""
    asked = ", ".join(f'log."{name}"' for name in columns)
    with connect(limits) as connection:
        connection.read_parquet([str(file) for file in files], hive_partitioning=False).create_view("log")
        connection.register("items", items.with_columns(pl.col("item_place").cast(pl.Int64)).to_arrow())
        rows = connection.sql(
            f"SELECT {asked}, items.item_place FROM log "  # noqa: S608 - names of columns, quoted
            "JOIN items ON log.item_id IS NOT DISTINCT FROM items.item_id ORDER BY log.user_id NULLS FIRST"
        )
        for batch in rows.to_arrow_reader(block_rows):
            part = pl.from_arrow(batch)
            assert isinstance(part, pl.DataFrame)  # noqa: S101 - from_arrow of a batch is a frame
            yield from part.iter_slices(block_rows)


def _whole_users(blocks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, cut between users: the last user of a block waits for the next block."""
    waiting: pl.DataFrame | None = None
    for block in blocks:
        rows = block if waiting is None else pl.concat([waiting, block])
        if rows.is_empty():
            continue
        last = rows["user_id"].eq_missing(rows["user_id"][-1])
        waiting = rows.filter(last)
        if not last.all():
            yield rows.filter(~last)
    if waiting is not None:
        yield waiting


def _block(rows: pl.DataFrame, items: pl.DataFrame, division: Division, snapshots: Snapshots) -> Block:
    # all of a user are here: three quarters of the time of sorting the whole log by all three
    rows = rows.sort("user_id", "request_id", "item_id")
    near = division.near(rows["user_id"], snapshots)
    members = rows.lazy().select("user_id").unique(maintain_order=True)
    users = division.complete("user", members, near).collect()
    pairs = rows.with_columns(user_place=pl.col("user_id").rle_id().cast(pl.Int64))
    for side, place in ((users, "user_place"), (items, "item_place")):
        taken = [name for name in side.columns if name in division.needed and name not in rows.columns]
        pairs = pairs.with_columns(side[name].gather(pairs[place]) for name in taken)
    return Block(users, division.complete("pair", pairs.lazy(), near).collect())
