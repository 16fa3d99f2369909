"""Flow "train": the stage of that name alone, for one logical date."""

import datetime as dt

from prefect import flow

from flows.day import holding
from flows.ending import ending
from flows.request import Request, run_name, scheduled_time
from flows.tasks import run_stage


@flow(name="train", flow_run_name=run_name("train"), persist_result=False)
@ending
def train(
    date: dt.date | None = None,
    scenario: str | None = None,
    recipes: list[str] | None = None,
    config: str | None = None,
) -> str:
    """Evaluate and train the model lines on a day whose samples are there; see flow "daily"."""
    request = Request.open(config, scenario, recipes)
    day = request.logical_date(date, scheduled_time())
    with holding(request.house, day):
        records = run_stage("train", day, scenario, list(request.lines), config)
    return f"train of {day}: {len(records)} partitions"
