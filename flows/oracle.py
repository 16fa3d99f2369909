"""`funnelcast oracle`: the published scores of a simulated funnel held to the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import UsageError
from flows import logs
from flows.options import Config, Debug, Json
from flows.settings import Settings
from flows.simulate import SCENARIO

if TYPE_CHECKING:
    import polars as pl

    from flows.house import House


def oracle(config: Config = None, debug: Debug = False, as_json: Json = False) -> None:
    """Hold the published scores of the simulated funnel to the truth, by day and model line.

    Regret is the expected log loss beyond that of the true probabilities, skill what share of the regret of a
    constant the model has left behind (1: none is left), ratio the sum of scores over the sum of truths. pcvr
    is judged over all impressions, clicked or not.
    """
    from flows.house import House

    logs.configure(as_json=as_json, debug=debug)
    path = None if config is None else str(Path(config).absolute())
    house = House.open(Settings.load(path), SCENARIO)
    found = against_truth(house)
    if as_json:
        print(json.dumps(found.to_dicts(), default=str))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("day", "line", "score", "rows", "regret", "skill", "ratio", box=box.SIMPLE)
    for day, line, score, rows, regret, skill, ratio in found.iter_rows():
        table.add_row(f"{day}", line, score, f"{rows:,}", f"{regret:.5f}", f"{skill:.3f}", f"{ratio:.3f}")
    Console().print(table)


def against_truth(house: House) -> pl.DataFrame:
    """Per day, line and score: ``rows``, ``regret``, ``skill``, ``ratio``; one day in memory at a time.

    Raises:
        UsageError: nothing is published whose truth is known.
    """
    import polars as pl

    from features.schemas import scores
    from features.simulation.oracle import TRUTH, judged, truth

    table = scores(house.scenario)
    found = []
    for day in house.store.days(table):
        if (house.logs / "truth" / f"dt={day}").is_dir():
            told = house.store.scan(table, [day]).drop_nulls("request_id")
            told = told.select(pl.col("request_id").alias("impression_id"), "line", *TRUTH)
            one = judged(told, truth(house.logs, day), by=("line",))
            found.append(one.select(pl.lit(day).alias("dt"), pl.all()))
    if not found:
        step = f"funnelcast simulate, then funnelcast backfill <first> <last> --scenario {SCENARIO}"
        raise UsageError(str(house.store.root), "no scores of impressions whose truth is known", step)
    return pl.concat(found)
