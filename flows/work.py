"""Run what is unfinished of some days, and start nothing where nothing is."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence

from flows import embedded, progress
from flows.request import Request

log = logging.getLogger("funnelcast.cli")


def work(request: Request, days: Sequence[dt.date], config: str | None, debug: bool) -> None:
    """Run what is unfinished of some days; without such, Prefect is not even imported."""
    todo = request.unfinished(days)
    if not todo:
        request.show()
        log.info("%s finished already: nothing to do", _range(days))
        return
    scenario, lines = request.house.scenario.name, list(request.lines)
    with progress.bar(len(days)), embedded.session(request.house.settings.warehouse, debug=debug):
        if len(days) == 1:
            from flows.daily import daily

            daily(days[0], scenario, lines, config)
        else:
            from flows.backfill import backfill

            backfill(days[0], days[-1], scenario, lines, config)


def _range(days: Sequence[dt.date]) -> str:
    return f"{days[0]} is" if len(days) == 1 else f"{days[0]} to {days[-1]}: all {len(days)} days are"
