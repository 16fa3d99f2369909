"""Run what is unfinished of some days, and start nothing where nothing is."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from contextlib import ExitStack

from flows import embedded, progress
from flows.ahead import ahead
from flows.day import run_day
from flows.request import Request
from flows.surroundings import refuse_unwritable

log = logging.getLogger("funnelcast.cli")


def work(
    request: Request,
    days: Sequence[dt.date],
    config: str | None,
    debug: bool,
    *,
    workers: int = 1,
    stale: bool = False,
) -> None:
    """Run what is unfinished of some days; without such, Prefect is not even imported.

    Args:
        request: where, and on which lines.
        days: oldest first.
        config: settings file, for the flows.
        debug: show Prefect's own lines.
        workers: days that are read and viewed at once.
        stale: leave days alone that were never run, though they lie between the others.
    """
    todo = request.unfinished(days)
    if not todo:
        request.show()
        log.info("%s finished already: nothing to do", _range(days))
        return
    refuse_unwritable(request.house)
    with progress.bar(len(days)), ExitStack() as stack:
        try:
            stack.enter_context(embedded.session(request.house.settings.warehouse, debug=debug))
        except embedded.NoPrefectApi as error:
            log.warning("%s The days run without Prefect.", error)
            _alone(request, days, workers)
            return
        _orchestrated(request, days, config, workers, stale)


def _orchestrated(
    request: Request, days: Sequence[dt.date], config: str | None, workers: int, stale: bool
) -> None:
    scenario, lines = request.house.scenario.name, list(request.lines)
    if len(days) == 1:
        from flows.daily import daily

        daily(days[0], scenario, lines, config)
    else:
        from flows.backfill import backfill

        backfill(days[0], days[-1], scenario, lines, config, workers, stale)


def _alone(request: Request, days: Sequence[dt.date], workers: int) -> None:
    """The same stages in the same order, with no orchestrator to tell; a failed day stops those after it."""
    if workers > 1 and len(todo := request.unfinished(days)) > 1:
        ahead(request.house, todo, workers)
    for nth, day in enumerate(days, start=1):
        if not request.unfinished([day]):
            progress.already(day)
            continue
        progress.began(day, nth, len(days))
        run_day(request.house, day, request.lines, progress.wrote)


def _range(days: Sequence[dt.date]) -> str:
    return f"{days[0]} is" if len(days) == 1 else f"{days[0]} to {days[-1]}: all {len(days)} days are"
