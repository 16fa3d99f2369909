"""Candidates to scores: a line scores users, items and pairs as ``models.pairs`` has them, and ranks them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import torch

from features.candidates import Listed, Product
from features.encode import Encoder, Layout
from features.encodings import Dense
from features.sides import SIDES, Division
from models.line import Line
from models.pairs import Crossed, Pairs, Share, Shares

#: Score column by which items are ranked.
RANKED_BY = "pctcvr"
#: Pairs in memory at a time.
BLOCK = 65_536
#: Users whose best items are kept at a time: the first layers of all items are made anew for every block of
#: them where items are too many to be held.
USERS = 1024
Arrays = Mapping[str, np.ndarray[Any, Any]]


def product_scores(line: Line, encoder: Encoder, product: Product, top: int | None) -> Iterator[pl.DataFrame]:
    """Scores of every user with every item, ordered by user and rank; the ``top`` of a user, if it is told.

    Ranks go by falling ``pctcvr``, equal scores by item id.
    """
    if product.users.is_empty() or product.items.is_empty():
        return
    scored = _Scored(line, encoder, product.division, product.users, product.items)
    count = product.items.height
    paired = bool(scored.shares.pair)
    step = max(1, BLOCK // count) if top is None or paired else max(1, min(USERS, BLOCK // min(top, count)))
    for start in range(0, product.users.height, step):
        users = range(start, min(start + step, product.users.height))
        crossed = scored.crossed(product, users) if paired else None
        if top is None:
            scores = scored.pairs.grid(scored.user_rows(users), crossed)
            by_UI = torch.from_numpy(scores[RANKED_BY])
            place_UI = by_UI.sort(dim=1, descending=True, stable=True).indices.numpy()
            found = {name: np.take_along_axis(score_UI, place_UI, 1) for name, score_UI in scores.items()}
        else:
            best = scored.pairs.top(scored.user_rows(users), top, by=RANKED_BY, crossed=crossed)
            place_UI = best.place_UN.numpy()
            found = {name: score_UN.numpy() for name, score_UN in best.scores.items()}
        yield scored.frame(users, place_UI, found)


def listed_scores(
    line: Line, encoder: Encoder, blocks: Iterable[Listed], top: int | None
) -> Iterator[pl.DataFrame]:
    """Scores of listed pairs, ordered by user, request and rank; the ``top`` of a request, if it is told."""
    for block in blocks:
        scored = _Scored(line, encoder, block.division, block.users, block.items)
        user_B, item_B = (block.pairs[f"{side}_place"].to_numpy() for side in ("user", "item"))
        crossed = scored.encoders["pair"].encode(block.pairs) if scored.shares.pair else None
        scores = scored.pairs.chosen(scored.users, user_B, item_B, crossed)
        place_B, rank_B = _ranked(block.pairs, scores[RANKED_BY])
        kept_B = slice(None) if top is None else rank_B <= top
        place_B, rank_B = place_B[kept_B], rank_B[kept_B]
        yield block.pairs.select("user_id", "item_id", "request_id")[place_B].with_columns(
            *(pl.Series(name, score_B[place_B]) for name, score_B in scores.items()),
            pl.Series("user_rank", rank_B),
            pl.Series("unknown_user", scored.unknown["user"][user_B[place_B]]),
            pl.Series("unknown_item", scored.unknown["item"][item_B[place_B]]),
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


class _Scored:
    """Encoded users and items, and the line that scores their pairs."""

    def __init__(
        self, line: Line, encoder: Encoder, division: Division, users: pl.DataFrame, items: pl.DataFrame
    ) -> None:
        self.shares = shares(encoder.layout, division)
        self.encoders = {side: encoder.part(division.features(side)) for side in SIDES}
        self.users, encoded_items = self.encoders["user"].encode(users), self.encoders["item"].encode(items)
        # a line that does not read the ids has a row for none of them
        self.unknown = {"user": np.ones(len(users), np.bool_), "item": np.ones(len(items), np.bool_)}
        self.unknown |= self.encoders["user"].unknown_keys(self.users)
        self.unknown |= self.encoders["item"].unknown_keys(encoded_items)
        self.pairs = Pairs(line, self.shares, encoded_items)
        self._user_id, self._item_id = users["user_id"], items["item_id"]

    def user_rows(self, users: range) -> Arrays:
        """Encoded inputs of some users."""
        return {name: array[users.start : users.stop] for name, array in self.users.items()}

    def crossed(self, product: Product, users: range) -> Crossed:
        """Encodes what pairs of some of these users, counted from the first of them, say with items."""

        def crossed(some: range, items: range) -> Arrays:
            shifted = range(users.start + some.start, users.start + some.stop)
            return self.encoders["pair"].encode(product.pairs(shifted, items))

        return crossed

    def frame(
        self, users: range, place_UI: np.ndarray[Any, Any], scores: Mapping[str, np.ndarray[Any, Any]]
    ) -> pl.DataFrame:
        """Ranked pairs of consecutive users, whose items are named by their places."""
        rows, ranks = place_UI.shape
        user_B = np.repeat(np.arange(users.start, users.stop), ranks)
        item_B = place_UI.ravel()
        return pl.DataFrame(
            {
                "user_id": self._user_id.gather(user_B),
                "item_id": self._item_id.gather(item_B),
                "request_id": pl.repeat(None, len(item_B), dtype=pl.String(), eager=True),
                **{name: score_UI.ravel() for name, score_UI in scores.items()},
                "user_rank": np.tile(np.arange(1, ranks + 1, dtype=np.int32), rows),
                "unknown_user": self.unknown["user"][user_B],
                "unknown_item": self.unknown["item"][item_B],
            }
        )
