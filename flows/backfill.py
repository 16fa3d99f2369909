"""Flow "backfill": the unfinished days of a range, oldest first, one task each.

``python -m flows.backfill 2022-04-25 2022-05-03`` is ``funnelcast backfill 2022-04-25 2022-05-03``.
"""

if __name__ == "__main__":  # first of all: the command line sets Prefect's defaults before it is imported
    import sys

    from flows.cli import main

    sys.exit(main(["backfill", *sys.argv[1:]]))

import datetime as dt

from prefect import flow

from features.errors import FunnelcastError
from flows import logs, progress
from flows.ahead import ahead
from flows.ending import ending
from flows.request import Request
from flows.tasks import run_whole_day


@flow(name="backfill", flow_run_name="backfill {start} to {end}", persist_result=False)
@ending
def backfill(
    start: dt.date,
    end: dt.date,
    scenario: str | None = None,
    recipes: list[str] | None = None,
    config: str | None = None,
    workers: int = 1,
    stale: bool = False,
) -> str:
    """Run every unfinished day from ``start`` to ``end``, both included; finished days are skipped.

    A day trains on from the model of the day before, so a failed day stops the chain: the flow fails and
    names it and the days that were not run. With more than one of ``workers``, days are read and viewed at
    once before that. With ``stale``, days that were never run are left alone.
    """
    request = Request.open(config, scenario, recipes)
    days = request.days(start, end)
    if stale:
        days = request.ran(days)
    if workers > 1 and len(todo := request.unfinished(days)) > 1:
        with logs.scrubbed():
            ahead(request.house, todo, workers)
    ran = 0
    for nth, day in enumerate(days, start=1):
        # Asked when its turn comes: a finished day may read what an earlier one has just made anew.
        if not request.unfinished([day]):
            progress.already(day)
            continue
        progress.began(day, nth, len(days))
        try:
            run_whole_day(day, scenario, list(request.lines), config)
        except Exception as error:
            raise _stopped(error, day, request.unfinished(days[nth:])) from error
        ran += 1
    if not ran:
        request.show()
    return f"{ran} days run, {len(days) - ran} were finished already"


def _stopped(error: Exception, day: dt.date, not_run: tuple[dt.date, ...]) -> Exception:
    """The error of a day, of the same kind, with what it means for the days after it."""
    rest = f"; not run: {', '.join(map(str, not_run))}" if not_run else ""
    if isinstance(error, FunnelcastError):
        return type(error)(f"day {day}: {error.where}", f"{error.found}{rest}", error.next_step)
    return RuntimeError(f"day {day} failed with {type(error).__name__}: {logs.redact(str(error))}{rest}")
