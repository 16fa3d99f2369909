"""What a day does not teach: nothing without impressions, no objective whose positives are all missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

import polars as pl

from features.calendar import days_between
from features.fingerprint import canonical
from features.funnel import Objective
from features.scenario import Scenario
from features.schemas import events
from features.validation.bands import QUALITY
from flows.house import House

_DAY = timedelta(days=1)


def is_empty(house: House, day: date) -> bool:
    """Whether the delivery of the day's impressions was read and held no row that counts."""
    found = house.store.generation(events(house.scenario.impressions), day)
    return found is not None and found.rows == 0


def settled_on(scenario: Scenario, objective: Objective, day: date) -> date:
    """The newest day of exposure some of whose labels are final at the end of ``day``."""
    open_for = scenario.funnel.closes_after(objective.name) + scenario.lateness + scenario.skew
    return day - open_for // _DAY * _DAY


def untaught(house: House, day: date) -> dict[str, list[date]]:
    """By objective, days of exposure without a positive among their final labels, where many should be.

    A log that did not come looks like that. Learned, it would say that nobody converts any more. Where few
    positives are usual, none is no news, and the day is learned as it is. What is given an objective shares
    its days. Labels of such a day that become final in a later run are not learned either.

    Args:
        house: where.
        day: of the run.
    """
    scenario = house.scenario
    runs = days_between(day - scenario.restated_days * _DAY, day)
    rows = house.store.scan(QUALITY, runs).filter(rule="positives", value=0.0).collect()
    told = rows.group_by("dt", "column").agg(pl.col("outcome").unique()).rows()
    odd = {(name, run) for run, name, said in told if "warn" in said and "overridden" not in said}
    found: dict[str, list[date]] = {}
    for objective in scenario.funnel:
        days = {
            settled_on(scenario, step, run)
            for step in scenario.funnel.path(objective.name)
            for run in runs
            if (step.name, run) in odd
        }
        if days:
            found[objective.name] = sorted(days)
    return found


def untaught_days(house: House, day: date) -> dict[str, list[str]]:
    """The same as text, for the ledger."""
    return {name: [one.isoformat() for one in days] for name, days in untaught(house, day).items()}


def untaught_key(house: House, day: date) -> dict[str, str]:
    """What a plan says of them; nothing where there are none."""
    return {"untaught": canonical(days)} if (days := untaught_days(house, day)) else {}


def taught(house: House, rows: pl.LazyFrame, left_out: Mapping[str, Iterable[date]]) -> pl.LazyFrame:
    """Training rows that do not train these objectives on these days; rows that then train none are gone.

    Args:
        house: says when a day begins and ends.
        rows: as ``features.batches.fresh_rows`` gives them.
        left_out: as `untaught` gives them.
    """
    if not left_out:
        return rows
    masks = []
    for name, edges in spans(house, left_out).items():
        shown = pl.any_horizontal(pl.col("exposed_at").is_between(*edge, closed="left") for edge in edges)
        masks.append((pl.col(f"trains_{name}") & ~shown).alias(f"trains_{name}"))
    some = pl.any_horizontal(f"trains_{name}" for name in house.scenario.funnel.names)
    return rows.with_columns(masks).filter(some)


def spans(house: House, left_out: Mapping[str, Iterable[date]]) -> dict[str, list[tuple[datetime, datetime]]]:
    """The instants at which these days begin and end, by objective."""
    return {
        name: [(house.day_start(day), house.watermark(day)) for day in days]
        for name, days in left_out.items()
    }
