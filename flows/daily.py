"""Flow "daily": one logical date through every stage, one task each.

``python -m flows.daily --date 2022-04-25`` is ``funnelcast run --date 2022-04-25``.
"""

if __name__ == "__main__":  # first of all: the command line sets Prefect's defaults before it is imported
    import sys

    from flows.cli import main

    sys.exit(main(["run", *sys.argv[1:]]))

import datetime as dt

from prefect import flow

from flows import progress
from flows.day import STAGES, close, holding
from flows.ending import ending
from flows.request import Request, run_name, scheduled_time
from flows.tasks import run_stage


@flow(name="daily", flow_run_name=run_name("daily"), persist_result=False)
@ending
def daily(
    date: dt.date | None = None,
    scenario: str | None = None,
    recipes: list[str] | None = None,
    config: str | None = None,
) -> str:
    """Run the stages of a day that are not done.

    Args:
        date: logical date; without it, the day before the run's scheduled time in the scenario's zone.
        scenario: by default that of the settings.
        recipes: model lines; by default those of the settings, else all of the scenario.
        config: settings file; by default ``FUNNELCAST_CONFIG`` or ``funnelcast.toml``.
    """
    request = Request.open(config, scenario, recipes)
    day = request.logical_date(date, scheduled_time())
    if not request.unfinished(request.days(day, day)):
        request.show()
        return progress.already(day)
    progress.began(day)
    with holding(request.house, day):
        stages = [run_stage(stage.name, day, scenario, list(request.lines), config) for stage in STAGES]
        close(request.house, day, tuple(record for records in stages for record in records))
    return f"{day} is done"
