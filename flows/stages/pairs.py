"""Candidates to scores: a line scores users, items and pairs as ``models.pairs`` has them, and ranks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from features.candidate_log import Listed
from features.candidates import Product
from features.encode import Encoder, Layout
from features.encodings import Dense
from features.sides import SIDES, Division, SideName
from models.line import Line
from models.pairs import Crossed, Pairs, Share, Shares

#: Score column by which items are ranked.
RANKED_BY = "pctcvr"
#: Pairs in memory at a time.
BLOCK = 65_536
#: Users whose best items are kept at a time: the first layers of all items are made anew for every block of
#: them where items are too many to be held.
USERS = 1024
#: Users whose features are in memory at a time.
READ = 65_536
Arrays = Mapping[str, np.ndarray[Any, Any]]


def product_scores(line: Line, encoder: Encoder, product: Product, top: int | None) -> Iterator[pl.DataFrame]:
    """Scores of every user with every item, ordered by user and rank; the ``top`` of a user, if it is told.

    Ranks go by falling ``pctcvr``, equal scores by item id.
    """
    count, members = product.items.height, product.members.height
    if not count or not members:
        return
    sides = _Sides(encoder, product.division)
    items = sides.encode("item", product.items)
    pairs = Pairs(line, sides.shares, items.rows)
    step = max(1, BLOCK // count)
    if top is not None and not sides.shares.pair:
        step = max(1, min(USERS, BLOCK // min(top, count)))
    for read in _cuts(range(members), READ):
        frame = product.users(read)
        users = sides.encode("user", frame)
        for some in _cuts(range(len(read)), step):
            own = frame[some.start : some.stop]
            crossed = sides.crossed(product, own)
            if top is None:
                scores = pairs.grid(users.cut(some), crossed)
                by_UI = torch.from_numpy(scores[RANKED_BY])
                place_UI = by_UI.sort(dim=1, descending=True, stable=True).indices.numpy()
                found = {name: np.take_along_axis(score_UI, place_UI, 1) for name, score_UI in scores.items()}
            else:
                best = pairs.top(users.cut(some), top, by=RANKED_BY, crossed=crossed)
                place_UI = best.place_UN.numpy()
                found = {name: score_UN.numpy() for name, score_UN in best.scores.items()}
            user_B, item_B = np.repeat(np.arange(len(some)), place_UI.shape[1]), place_UI.ravel()
            yield pl.DataFrame(
                {
                    "user_id": own["user_id"].gather(user_B),
                    "item_id": product.items["item_id"].gather(item_B),
                    "request_id": pl.repeat(None, len(item_B), dtype=pl.String(), eager=True),
                    **{name: score_UI.ravel() for name, score_UI in found.items()},
                    "user_rank": np.tile(np.arange(1, place_UI.shape[1] + 1, dtype=np.int32), len(some)),
                    "unknown_user": users.unknown[some.start : some.stop][user_B],
                    "unknown_item": items.unknown[item_B],
                }
            )


def _cuts(whole: range, step: int) -> Iterator[range]:
    """The same numbers, ``step`` at a time."""
    return (whole[start : start + step] for start in range(0, len(whole), step))


def listed_scores(line: Line, encoder: Encoder, listed: Listed, top: int | None) -> Iterator[pl.DataFrame]:
    """Scores of listed pairs, ordered by user, request and rank; the ``top`` of a request, if it is told."""
    sides = _Sides(encoder, listed.division)
    items = sides.encode("item", listed.items)
    for block in listed.blocks:
        users = sides.encode("user", block.users)
        user_B, item_B = (block.pairs[f"{side}_place"].to_numpy() for side in ("user", "item"))
        # a block may hold few of the items, and what is computed of an item is computed of all that are told
        some_I, place_B = np.unique(item_B, return_inverse=True)
        pairs = Pairs(line, sides.shares, {name: array[some_I] for name, array in items.rows.items()})
        crossed = sides.encoders["pair"].encode(block.pairs) if sides.shares.pair else None
        scores = pairs.chosen(users.rows, user_B, place_B, crossed)
        order_B, rank_B = _ranked(block.pairs, scores[RANKED_BY])
        kept_B = slice(None) if top is None else rank_B <= top
        order_B, rank_B = order_B[kept_B], rank_B[kept_B]
        yield block.pairs.select("user_id", "item_id", "request_id")[order_B].with_columns(
            *(pl.Series(name, score_B[order_B]) for name, score_B in scores.items()),
            pl.Series("user_rank", rank_B),
            pl.Series("unknown_user", users.unknown[user_B[order_B]]),
            pl.Series("unknown_item", items.unknown[item_B[order_B]]),
        )


def _ranked(pairs: pl.DataFrame, score_B: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """Places of the pairs by falling score within their request, and the rank of each there, from 1, int32.

    Args:
        pairs: request by request, those of one by item id, which is also the order of equal scores.
        score_B: probabilities, float32.
    """
    begins = (pl.col(name).ne_missing(pl.col(name).shift()) for name in ("user_id", "request_id"))
    request_B = pairs.select(pl.any_horizontal(begins).cum_sum().cast(pl.UInt64)).to_series().to_numpy()
    # a probability's bits grow with it, so one sort of numbers does for both
    key_B = request_B << np.uint64(32) | ~score_B.view(np.uint32)
    first_R = np.flatnonzero(np.append(True, request_B[1:] != request_B[:-1]))
    rank_B = np.arange(1, len(pairs) + 1) - np.repeat(first_R, np.diff(first_R, append=len(pairs)))
    return np.argsort(key_B, kind="stable"), rank_B.astype(np.int32)


def shares(layout: Layout, division: Division) -> Shares:
    """Which places of a line's inputs belong to whom."""
    dense: dict[str, list[int]] = {side: [] for side in SIDES}
    place = 0
    for feature in layout.dense:
        wide = 2 if isinstance(feature.encoding, Dense) and feature.encoding.flag else 1
        dense[division.encoded[feature.name]] += range(place, place + wide)
        place += wide

    def own(side: str) -> Share:
        singles, bags = (
            tuple(p for p, feature in enumerate(kind) if division.encoded[feature.name] == side)
            for kind in (layout.singles, layout.bags)
        )
        return Share(singles, bags, tuple(dense[side]))

    return Shares(own("user"), own("item"), own("pair"))


@dataclass(frozen=True)
class _Side:
    """Encoded users or items, and which of them have no row of their own, (rows,) bool."""

    rows: Arrays
    unknown: np.ndarray[Any, Any]

    def cut(self, some: range) -> Arrays:
        """Encoded inputs of some."""
        return {name: array[some.start : some.stop] for name, array in self.rows.items()}


class _Sides:
    """Encodes users, items and what only pairs of them say."""

    def __init__(self, encoder: Encoder, division: Division) -> None:
        self.shares = shares(encoder.layout, division)
        self.encoders = {side: encoder.part(division.features(side)) for side in SIDES}

    def encode(self, side: SideName, frame: pl.DataFrame) -> _Side:
        rows = self.encoders[side].encode(frame)
        # a line that does not read the ids has a row for none of them
        unknown = self.encoders[side].unknown_keys(rows).get(side, np.ones(frame.height, np.bool_))
        return _Side(rows, unknown)

    def crossed(self, product: Product, users: pl.DataFrame) -> Crossed | None:
        """Encodes what pairs of some of these users and items say, if they say anything."""
        if not self.shares.pair:
            return None

        def crossed(some: range, items: range) -> Arrays:
            return self.encoders["pair"].encode(product.pairs(users[some.start : some.stop], items))

        return crossed
