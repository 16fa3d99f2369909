"""Flow "score": the stage of that name alone, for one logical date."""

import datetime as dt

from prefect import flow

from flows.day import holding
from flows.ending import ending
from flows.request import Request, run_name, scheduled_time
from flows.tasks import run_stage


@flow(name="score", flow_run_name=run_name("score"), persist_result=False)
@ending
def score(
    date: dt.date | None = None,
    scenario: str | None = None,
    recipes: list[str] | None = None,
    config: str | None = None,
) -> str:
    """Score the candidates of the next day with the models of a day, without publishing; see flow "daily"."""
    request = Request.open(config, scenario, recipes)
    day = request.logical_date(date, scheduled_time())
    with holding(request.house, day):
        records = run_stage("score", day, scenario, list(request.lines), config)
    return f"score of {day}: {len(records)} partitions"
