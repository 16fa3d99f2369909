"""How far scores are from the truth: no label is needed, so no luck of the draw is in it.

Equations, over impressions i with true probability p_i and score q_i:

    regret = mean_i [ p_i log(p_i / q_i) + (1 - p_i) log((1 - p_i) / (1 - q_i)) ]
    skill  = 1 - regret / regret of the constant mean_i p_i
    ratio  = sum_i q_i / sum_i p_i

The regret is the expected log loss of the scores beyond that of the truth, in nats an impression: the loss
that a perfect model would save. Source: Cover and Thomas, Elements of Information Theory, theorem 5.4.3 (what
a wrong code costs); from memory.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from features.errors import UsageError

#: What the truth knows: click, conversion given the click (over all impressions), and both.
TRUTH = {"pctr": pl.col("pctr"), "pcvr": pl.col("pcvr"), "pctcvr": pl.col("pctr") * pl.col("pcvr")}
_LEAST = 1e-7


def truth(folder: Path, day: date) -> pl.LazyFrame:
    """``impression_id``, ``category`` and the true ``pctr``, ``pcvr``, ``pctcvr`` of a day's impressions.

    Args:
        folder: of the simulation.
        day: on which they were shown.

    Raises:
        UsageError: the day was not simulated there.
    """
    files = folder / "truth" / f"dt={day}"
    if not files.is_dir():
        raise UsageError(str(files), "no truth of that day", "funnelcast simulate")
    true = {name: one.cast(pl.Float64) for name, one in TRUTH.items()}
    return pl.scan_parquet(files / "*.parquet").select(
        "impression_id", "category", *(one.alias(name) for name, one in true.items())
    )


def judged(scores: pl.LazyFrame, true: pl.LazyFrame, by: tuple[str, ...] = ()) -> pl.DataFrame:
    """Regret, skill and ratio of scores.

    Args:
        scores: ``impression_id`` and any of ``pctr``, ``pcvr``, ``pctcvr``, and columns of ``by``.
        true: of ``truth``; impressions that only one of both has are left out.
        by: columns that tell apart what is judged by itself: lines of ``scores``, ``category`` of the truth.

    Returns:
        One row per group and score: columns of ``by``, ``score``, ``rows``, ``regret``, ``skill``, ``ratio``.
    """
    given = [name for name in TRUTH if name in scores.collect_schema()]
    both = scores.join(true.rename({name: f"true_{name}" for name in TRUTH}), on="impression_id")
    groups = both.group_by(by or pl.lit("all").alias("group"))
    found = [
        groups.agg(
            rows=pl.len(),
            regret=_divergence(pl.col(f"true_{name}"), pl.col(name)).mean(),
            constant=_divergence(pl.col(f"true_{name}"), pl.col(f"true_{name}").mean()).mean(),
            ratio=pl.col(name).cast(pl.Float64).sum() / pl.col(f"true_{name}").sum(),
        ).with_columns(score=pl.lit(name))
        for name in given
    ]
    table = pl.concat(found).with_columns(skill=1 - pl.col("regret") / pl.col("constant"))
    return table.select(*by, "score", "rows", "regret", "skill", "ratio").sort(*by, "score").collect()


def _divergence(p: pl.Expr, q: pl.Expr) -> pl.Expr:
    """Of Bernoulli(q) from Bernoulli(p), in nats."""
    q = q.cast(pl.Float64).clip(_LEAST, 1 - _LEAST)
    p = p.clip(_LEAST, 1 - _LEAST)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
