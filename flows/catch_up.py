"""`funnelcast backfill`: days of a range, or those that are stale."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import UsageError
from flows import logs
from flows.options import Config, Debug, Json, Recipe, Scenario, day_of, text_of

if TYPE_CHECKING:
    from flows.request import Request

log = logging.getLogger("funnelcast.cli")


def backfill(
    start: Annotated[str | None, typer.Argument(help="First logical date.")] = None,
    end: Annotated[str | None, typer.Argument(help="Last logical date, included.")] = None,
    stale: Annotated[
        bool,
        typer.Option("--stale", help="Only days that were run before and follow from other inputs now."),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(min=1, max=64, help="Days that are read and viewed at once; no result depends on it."),
    ] = 1,
    recipe: Recipe = None,
    scenario: Scenario = None,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Run the unfinished days of a range, oldest first.

    A day trains on from the model of the day before, so a failed day stops the ones after it. With --stale,
    the range may be left out, and days that were never run stay so.
    """
    from flows import report
    from flows.plan_report import plan
    from flows.request import Request
    from flows.work import work

    logs.configure(as_json=as_json, debug=debug)
    path = text_of(config)
    request = Request.open(path, scenario, recipe)
    if stale:
        request = request.of_trained_lines()
    days = _days(request, start, end, stale)
    if dry_run:
        plan(request, days, as_json)
        return
    if not days:
        log.info("no day that was run follows from other inputs now: nothing to do")
        return
    work(request, days, path, debug, workers=workers, stale=stale)
    report.outcome(request, days, as_json)


def _days(request: Request, start: str | None, end: str | None, stale: bool) -> tuple[dt.date, ...]:
    zone = request.house.scenario.zone
    if (start is None) != (end is None) or (start is None and not stale):
        raise UsageError("range", "its first or last day is missing", "give both, or --stale alone")
    asked = None if start is None or end is None else request.days(day_of(start, zone), day_of(end, zone))
    return request.stale(asked) if stale else asked or ()
