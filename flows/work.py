"""Run what is unfinished of some days, and start nothing where nothing is."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from contextlib import ExitStack

from flows import embedded, progress
from flows.day import run_day
from flows.request import Request
from flows.surroundings import refuse_unwritable

log = logging.getLogger("funnelcast.cli")


def work(request: Request, days: Sequence[dt.date], config: str | None, debug: bool) -> None:
    """Run what is unfinished of some days; without such, Prefect is not even imported."""
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
            _alone(request, days)
            return
        _orchestrated(request, days, config)


def _orchestrated(request: Request, days: Sequence[dt.date], config: str | None) -> None:
    scenario, lines = request.house.scenario.name, list(request.lines)
    if len(days) == 1:
        from flows.daily import daily

        daily(days[0], scenario, lines, config)
    else:
        from flows.backfill import backfill

        backfill(days[0], days[-1], scenario, lines, config)


def _alone(request: Request, days: Sequence[dt.date]) -> None:
    """The same stages in the same order, with no orchestrator to tell; a failed day stops those after it."""
    for nth, day in enumerate(days, start=1):
        if not request.unfinished([day]):
            progress.already(day)
            continue
        progress.began(day, nth, len(days))
        run_day(request.house, day, request.lines, progress.wrote)


def _range(days: Sequence[dt.date]) -> str:
    return f"{days[0]} is" if len(days) == 1 else f"{days[0]} to {days[-1]}: all {len(days)} days are"
