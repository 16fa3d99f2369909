"""What the command line prints: tables for people, one JSON document for machines."""

from __future__ import annotations

import csv
import datetime as dt
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.harmless import harmless, json_line
from flows.query import Answer, as_text, ask, exists, relative

if TYPE_CHECKING:
    from features.promises import Offence
    from flows.house import House
    from flows.request import Request

_QUALITY = """
SELECT dt, objective, line, value, rows, positives
FROM metrics_daily
WHERE metric = 'auc' AND slice = 'all' AND space = 'impressions' AND rows > 0 AND dt BETWEEN $first AND $last
ORDER BY objective, dt, line
"""
_PASSES = """
SELECT
    dt, line, objective, if(slice = 'all', 'last', slice[6:]) AS pass,
    any_value(value) FILTER (metric = 'auc') AS auc, any_value(value) FILTER (metric = 'log_loss') AS log_loss
FROM metrics_daily
WHERE metric IN ('auc', 'log_loss') AND (slice = 'all' OR slice LIKE 'pass_%') AND space = 'impressions'
    AND rows > 0 AND (dt, line) IN (SELECT (dt, line) FROM metrics_daily WHERE slice = 'pass_1')
    AND dt BETWEEN $first AND $last
GROUP BY ALL
ORDER BY dt, line, objective, pass
"""
_SCORED = "SELECT max(dt) FROM scores"
_REFUSED = "SELECT dt, reason, count(*) FROM quarantine GROUP BY ALL ORDER BY dt, reason"
_EXAMPLE = (
    "SELECT user_id, item_id, pctr, pcvr, pctcvr FROM scores_latest "
    "WHERE line = 'esmm' ORDER BY pctcvr DESC LIMIT 5"
)


def outcome(request: Request, days: Sequence[dt.date], as_json: bool) -> None:
    """The quality of some days, what the gate decided, and where their tables are."""
    from flows.gate_report import judged, worth_telling

    house = request.house
    found, passes = quality(house, days), per_pass(house, days)
    decided = list(judged(house, days, request.lines))
    if as_json:
        told = {"days": days, "tables": str(house.store.root), "quality": _records(found)}
        told |= {"gate": [one.record() for one in decided]}
        _dump(told | ({"passes": _records(passes)} if passes.rows else {}))
        return
    show_quality(found)
    show_per_pass(passes)
    for line in worth_telling(decided):
        _say(line)
    _say(f"Tables: {relative(house.store.root)}   catalogue: {relative(house.catalog)}")
    _say('Ask them: funnelcast sql "FROM scores_latest LIMIT 5"')


def tour(house: House, days: Sequence[dt.date], as_json: bool) -> None:
    """The end of the demo: quality by day, where the tables are, one question answered, what to do next."""
    found, example = quality(house, days), ask(house, _EXAMPLE)
    if as_json:
        _dump(
            {
                "days": days,
                "tables": str(house.store.root),
                "quality": _records(found),
                "query": _EXAMPLE,
                "answer": _records(example),
            }
        )
        return
    show_quality(found)
    _say(f"\nThe tables are in {relative(house.store.root)}, the catalogue is {relative(house.catalog)}.")
    _say(f'\n$ funnelcast sql "{_EXAMPLE}"')
    answer(example, "table", 5)
    _say("\nNext: funnelcast status, or open the catalogue in stock DuckDB:")
    _say(f"  duckdb -readonly {relative(house.catalog)} \"FROM metrics_daily WHERE metric = 'auc'\"")


def quality(house: House, days: Sequence[dt.date]) -> Answer:
    """Prequential AUC per objective, day and line, all impressions; empty while nothing is published."""
    if not exists(house) or not days:
        return Answer(("dt", "objective", "line", "value", "rows", "positives"), [])
    return ask(house, _QUALITY, {"first": min(days), "last": max(days)})


def show_quality(found: Answer) -> None:
    """One block an objective, one row a day, one column a line."""
    if not found.rows:
        return
    lines = sorted({str(row[2]) for row in found.rows})
    title = "AUC over all impressions of a day, scored before the model learned from it"
    table = _table(title, "objective", "day", "positives")
    for line in lines:
        table.add_column(line, justify="right")
    values = {(row[1], row[0], row[2]): row[3] for row in found.rows}
    counts = {(row[1], row[0]): f"{row[5]:,} of {row[4]:,}" for row in found.rows}
    shown = ""
    for objective, day in counts:
        if shown and objective != shown:
            table.add_section()
        table.add_row(
            objective if objective != shown else "",
            str(day),
            counts[objective, day],
            *(as_text(values.get((objective, day, line))) for line in lines),
        )
        shown = objective
    Console().print(table)


def per_pass(house: House, days: Sequence[dt.date]) -> Answer:
    """AUC and log loss on a day by what the pass over the day before was worth; empty where one is made."""
    if not exists(house) or not days:
        return Answer((), [])
    return ask(house, _PASSES, {"first": min(days), "last": max(days)})


def show_per_pass(found: Answer) -> None:
    """One row a day, line, objective and pass; a later pass that is worse should not be made."""
    if not found.rows:
        return
    title = "Next-day cost of each pass over a day (epochs_per_day)"
    table = _table(title, "day", "line", "objective", "pass", "AUC", "log loss")
    for row in found.rows:
        table.add_row(*(as_text(value) for value in row))
    Console().print(table)


def status(request: Request, as_json: bool) -> None:
    """Days by stages, the last scored day, and rows kept out by reason."""
    from flows.day import STAGES, available_days, pending
    from flows.descendants import stale
    from flows.gate_report import newest, worth_telling
    from flows.stages.quality import blocked_days

    house = request.house
    days = {day: pending(house, day, request.lines) for day in available_days(house)}
    old = stale(house, days, request.lines)
    blocked = blocked_days(house, days)
    scored = ask(house, _SCORED).rows[0][0] if exists(house) else None
    refused: dict[dt.date, dict[str, int]] = {}
    for day, reason, count in ask(house, _REFUSED).rows if exists(house) else ():
        refused.setdefault(day, {})[reason] = count
    if as_json:
        told = [
            {"day": day, "pending": todo, "quarantined": refused.get(day, {})}
            | _stale(old.get(day))
            | ({"blocked": blocked[day]} if day in blocked else {})
            for day, todo in days.items()
        ]
        _dump(
            {
                "scenario": house.scenario.name,
                "lines": request.lines,
                "scores": scored,
                "days": told,
                "gate": [one.record() for one in newest(house, list(days), request.lines)],
            }
        )
        return
    stages = [stage.name for stage in STAGES]
    table = _table(f"{house.scenario.name}: {', '.join(request.lines)}", "day", *stages, "quarantined")
    for day, names in days.items():
        trained = stages.index("train") if day in old else len(stages)
        marks = [
            "blocked"
            if day in blocked and stage == "validate"
            else "to do"
            if stage in names
            else "stale"
            if place >= trained
            else "done"
            for place, stage in enumerate(stages)
        ]
        table.add_row(str(day), *marks, f"{sum(refused.get(day, {}).values()):,}")
    Console().print(table)
    reasons = Counter[str]()
    for counts in refused.values():
        reasons.update(counts)
    if reasons:
        _say("Quarantined by reason: " + ", ".join(f"{name} {n:,}" for name, n in sorted(reasons.items())))
    for line in worth_telling(newest(house, list(days), request.lines)):
        _say(line)
    _say(f"Last day with scores: {scored or 'none'}.   Tables: {relative(house.store.root)}")
    for day, why in blocked.items():
        _say(f"Blocked: {day}, {'; '.join(why)}. See funnelcast explain E412.")
    if old:
        _say(f"Stale: models that descend from {min(old.values())}, which is to be trained anew.")
        _say("Only what was run before: funnelcast backfill --stale")
    if todo := [day for day, names in days.items() if names or day in old]:
        _say(f"Next: funnelcast backfill {todo[0]} {todo[-1]}")


def promises(found: Sequence[Offence], as_json: bool) -> None:
    """The broken promises, each with the number of rows that break it and some of them."""
    if as_json:
        _dump({"broken": [asdict(offence) for offence in found]})
        return
    if not found:
        _say("Every contract and every promise of sql/checks holds.")
        return
    table = _table("Broken promises", "check", "promise", "offenders", "examples")
    for offence in found:
        examples = Text("\n".join(as_text(example) for example in offence.examples))
        table.add_row(offence.check, offence.promise, f"{offence.offenders:,}", examples)
    Console().print(table)


def answer(found: Answer, form: str, limit: int) -> None:
    """Rows of a query as a table (shortened), CSV or JSON (complete)."""
    if form == "json":
        _dump(_records(found))
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(found.columns)
        writer.writerows(found.rows)
    else:
        table = _table(None, *found.columns)
        for row in found.rows[:limit]:
            table.add_row(*(Text(as_text(value)) for value in row))  # Text: data is not markup
        console = Console()
        console.print(table)
        if len(found.rows) > limit:
            console.print(f"{limit} of {len(found.rows):,} rows; --limit or --format csv shows more")


def _stale(ancestor: dt.date | None) -> dict[str, dt.date]:
    """For machines: the ancestor that will be trained anew, where there is one."""
    return {} if ancestor is None else {"stale_since": ancestor}


def _table(title: str | None, *headings: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in headings:
        table.add_column(Text(as_text(heading)))  # Text: column names of a query are not markup
    return table


def _records(found: Answer) -> list[dict[str, Any]]:
    """Rows by column name; JSON has no NaN."""
    rows = ([None if value != value else value for value in row] for row in found.rows)
    return [dict(zip(found.columns, row, strict=True)) for row in rows]


def _say(line: str) -> None:
    """A line that may hold paths and commands to copy: never wrapped, coloured or read as markup."""
    Console().print(harmless(line, lines=True), soft_wrap=True, highlight=False, markup=False)


def _dump(value: object) -> None:
    print(json_line(value))
