"""Bands that the figures of a day must lie in, most of them around those of the days before it.

A figure is one number that a day has of a table: how many rows a source delivered, the share of nulls of a
column, the rate of an objective. The usual value is the median of the trailing days, which one odd day among
them does not move. Counts and rates are held to a multiple of it, shares to a distance above it; a share that
means the same on any day, such as that of copies, to a limit as it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import polars as pl
import pyarrow as pa

from features.tables import Table

Rule = Literal["volume", "copies", "nulls", "constant", "positives", "unknown", "withheld", "drift"]
#: What a figure is held to, by rule: a multiple of the usual value, a distance above it, or a limit as it is.
_AGAINST: dict[Rule, Literal["multiple", "distance", "limit"]] = {
    "volume": "multiple",
    "copies": "limit",
    "nulls": "distance",
    "constant": "distance",
    "positives": "multiple",
    "unknown": "limit",
    "withheld": "limit",
    "drift": "limit",
}
RULES: tuple[str, ...] = tuple(_AGAINST)
#: What becomes of a figure; ``overridden`` would have blocked, and somebody answers for it.
OUTCOMES = ("ok", "warn", "block", "overridden", "no baseline", "too few")
#: A multiple of a smaller count than this is chance: at 50, three standard deviations are 42 %.
FEWEST = 50

FIGURES = pl.Schema(
    {
        "table": pl.String(),
        "rule": pl.String(),
        "column": pl.String(),
        "value": pl.Float64(),
        "rows": pl.Int64(),
    }
)
QUALITY = Table(
    name="quality_daily",
    schema=pa.schema(
        [
            ("table", pa.string()),
            ("rule", pa.string()),
            ("column", pa.string()),
            ("level", pa.string()),
            ("value", pa.float64()),
            ("usual", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("rows", pa.int64()),
            ("reference_days", pa.int32()),
            ("outcome", pa.string()),
        ]
    ),
    sort_by=("table", "rule", "column", "level"),
    description="Figures of a day's data, each with the band that it is held to; one row a figure and band.",
    columns={
        "dt": "Logical date of the run.",
        "table": "Table that the figure is of.",
        "rule": "volume: rows of a delivery without copies and refused rows; copies: share of copies among "
        "delivered rows; nulls: share of nulls; constant: 1 if a column has one value or none; positives: "
        "rate of an objective among rows of its space whose label is final; unknown: share of values that "
        "the id maps of the day before do not know; withheld: share of impressions of this and "
        "the days before that a change of a history came too late for; drift: population stability index.",
        "column": "Column, objective or view; empty where the figure is of the whole table.",
        "level": "warn, or block: no model is trained and nothing is published.",
        "value": "The figure; null where there is no row to tell it.",
        "usual": "Median of the figure on the days before; null without a baseline.",
        "low": "Least value inside the band; null without one.",
        "high": "Greatest value inside the band; null without one.",
        "rows": "Rows behind the figure.",
        "reference_days": "Days before that have the figure.",
        "outcome": "ok, warn, block, overridden (by whom, see runs), no baseline (too few days before it), "
        "too few (rows).",
    },
)


@dataclass(frozen=True, kw_only=True)
class Band:
    """What a rule allows.

    Attributes:
        rule: what is measured.
        level: ``warn`` names it; with ``block``, the day is neither learned nor published.
        low: least multiple of the usual value (volume, positives).
        high: greatest multiple; of nulls and constant, greatest distance above the usual value; of copies,
            unknown, withheld and drift, greatest value.
        of: sources, columns or objectives that it is for; empty: all.
        days: how many days before are looked at.
        least: how many of them must have the figure.
        same_weekday: only the same day of the week is looked at.

    Raises:
        ValueError: no edge, a low edge where the rule knows none, or edges that cross.
    """

    rule: Rule
    level: Literal["warn", "block"]
    low: float | None = None
    high: float | None = None
    of: tuple[str, ...] = ()
    days: int = 28
    least: int = 7
    same_weekday: bool = False

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError(f"A band of {self.rule} needs low or high.")
        if self.low is not None and _AGAINST[self.rule] != "multiple":
            raise ValueError(f"A band of {self.rule} has no low edge, got {self.low}.")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"A band of {self.rule} must have low < high, got {self.low}, {self.high}.")

    def before(self, day: date) -> list[date]:
        """The days that the usual value is taken from, oldest first."""
        days = (day - timedelta(days=back) for back in range(self.days, 0, -1))
        return [one for one in days if not self.same_weekday or one.weekday() == day.weekday()]


#: What holds where a scenario says nothing else. A day may grow or shrink by half without a word.
BANDS = (
    Band(rule="volume", level="warn", low=0.5, high=2.0),
    Band(rule="volume", level="block", low=0.2, high=5.0),
    Band(rule="copies", level="warn", high=0.3, least=0),
    Band(rule="copies", level="block", high=0.8, least=0),
    Band(rule="nulls", level="warn", high=0.25),
    Band(rule="constant", level="warn", high=0.5),
    Band(rule="positives", level="warn", low=0.5, high=2.0),
    Band(rule="unknown", level="warn", high=0.2),
    Band(rule="withheld", level="warn", high=0.2, least=0),
)


def name(rule: str, table: str, column: str) -> str:
    """The name of a figure, which an override may give.

    >>> name("volume", "events/click", ""), name("nulls", "samples", "price")
    ('volume.click', 'nulls.price')
    """
    return f"{rule}.{column or table.rpartition('/')[2]}"


def judged(
    bands: Iterable[Band],
    day: date,
    figures: pl.DataFrame,
    earlier: pl.DataFrame,
    overridden: Collection[str],
) -> pl.DataFrame:
    """The table ``quality_daily`` of one day.

    Args:
        bands: of the scenario.
        day: the day.
        figures: of the day, as `FIGURES`.
        earlier: ``dt``, ``table``, ``rule``, ``column``, ``value`` of days before that may be compared with.
        overridden: rules, or names of figures, that somebody answers for on this day.
    """
    known: dict[tuple[str, str, str], dict[date, float]] = {}
    for dt, table, rule, column, value in earlier.select("dt", *FIGURES.names()[:4]).drop_nulls().rows():
        known.setdefault((table, rule, column), {})[dt] = value
    rows = []
    for band in bands:
        for figure in figures.filter(rule=band.rule).iter_rows(named=True):
            table, column = figure["table"], figure["column"]
            if band.of and not {column or table.rpartition("/")[2]} & set(band.of):
                continue
            there = known.get((table, band.rule, column), {})
            told = [there[one] for one in band.before(day) if one in there]
            low, high, usual = _edges(band, told)
            outcome = _outcome(band, figure, len(told), usual, low, high)
            if outcome == "block" and {band.rule, name(band.rule, table, column)} & set(overridden):
                outcome = "overridden"
            where = (table, band.rule, column, band.level)
            rows.append(
                (*where, figure["value"], usual, low, high, figure["rows"], len(told), outcome),
            )
    empty = pl.DataFrame(QUALITY.schema.empty_table())
    return pl.DataFrame(rows, schema=empty.schema, orient="row").sort(QUALITY.sort_by)


def _edges(band: Band, told: list[float]) -> tuple[float | None, float | None, float | None]:
    """Low, high and usual value; only what does not need days before is known without them."""
    usual = pl.Series(told, dtype=pl.Float64).median() if told and len(told) >= band.least else None
    assert usual is None or isinstance(usual, float)  # noqa: S101 - for the type checker
    if _AGAINST[band.rule] == "limit":
        return band.low, band.high, usual
    if usual is None:
        return None, None, None
    if _AGAINST[band.rule] == "distance":
        return None, None if band.high is None else usual + band.high, usual
    low, high = (None if edge is None else edge * usual for edge in (band.low, band.high))
    return low, high, usual


def _outcome(
    band: Band,
    figure: dict[str, object],
    days: int,
    usual: float | None,
    low: float | None,
    high: float | None,
) -> str:
    value, rows = figure["value"], figure["rows"]
    if days < band.least:
        return "no baseline"
    if not isinstance(value, float) or not isinstance(rows, int):
        return "too few"
    # Of a count, the usual one speaks for itself; of a rate, how many positives there should have been.
    expected = usual if band.rule == "volume" else rows * (usual or 0) if band.rule == "positives" else rows
    if expected is not None and expected < FEWEST:
        return "too few"
    inside = (low is None or value >= low) and (high is None or value <= high)
    return "ok" if inside else band.level
