"""Candidates as plain rows: what scoring knows of their users, items and pairs, side by side."""

from __future__ import annotations

import polars as pl

from features.candidates import Listed, Product


def joined(found: Product | Listed) -> pl.DataFrame:
    """Every pair with all that is known of it, on whichever side it is."""
    if isinstance(found, Product):
        pairs = found.pairs(range(found.users.height), range(found.items.height))
    else:
        pairs = found.pairs
    for key, side in (("user_id", found.users), ("item_id", found.items)):
        others = [name for name in side.columns if name == key or name not in pairs.columns]
        pairs = pairs.join(side.select(others), on=key, how="left", maintain_order="left")
    return pairs
