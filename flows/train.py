"""Flow "train": the stage of that name and the gate, for one logical date."""

import datetime as dt

from prefect import flow

from flows.ending import ending
from flows.request import run_name
from flows.tasks import run_stages_alone


@flow(name="train", flow_run_name=run_name("train"), persist_result=False)
@ending
def train(
    date: dt.date | None = None,
    scenario: str | None = None,
    recipes: list[str] | None = None,
    config: str | None = None,
) -> str:
    """Evaluate, train and judge the model lines on a day whose samples are there; see flow "daily"."""
    return run_stages_alone(("train", "gate"), date, scenario, recipes, config)
