"""Flow "score": the stage of that name alone, with the curves that it asks for, for one logical date."""

import datetime as dt

from prefect import flow

from flows.ending import ending
from flows.request import run_name
from flows.tasks import run_stages_alone


@flow(name="score", flow_run_name=run_name("score"), persist_result=False)
@ending
def score(
    date: dt.date | None = None,
    scenario: str | None = None,
    recipes: list[str] | None = None,
    config: str | None = None,
) -> str:
    """Score the candidates of the next day with who stands, without publishing; see flow "daily"."""
    return run_stages_alone(("calibrate", "score"), date, scenario, recipes, config)
