"""The Prefect tasks of the house, one stage of one day and one whole day; and what is worth a retry."""

from __future__ import annotations

import datetime as dt
import errno
from collections.abc import Sequence
from typing import Any

from deltalake.exceptions import CommitFailedError
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from features.errors import Busy
from flows import logs, progress
from flows.day import STAGES, holding, run_day
from flows.request import Request, scheduled_time
from flows.stages.record import StageRecord

_HOPELESS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EISDIR}


def transient(error: object) -> bool:
    """True if the same call may succeed in a while: storage or network trouble, somebody else's commit.

    Data and usage errors stay what they are however often they are repeated.
    """
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    return isinstance(error, Busy | CommitFailedError)


def worth_a_retry(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question after a failed attempt."""
    del task, run
    return transient(state.result(raise_on_failure=False))


# A stage is a pure function of its inputs and commits once, so a repeat is safe. Nothing is persisted or
# cached by Prefect: what is done is what the tables say.
_RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_a_retry,
}


@task(name="stage", task_run_name="{stage} {day}", **_RETRIED)
def run_stage(
    stage: str, day: dt.date, scenario: str | None, lines: list[str], config: str | None
) -> tuple[StageRecord, ...]:
    """Run one stage of a day; what it says of every partition that it wrote or found written."""
    with logs.scrubbed():
        request = Request.open(config, scenario, lines)
        (chosen,) = (one for one in STAGES if one.name == stage)
        records = chosen.run(request.house, day, request.lines)
    for record in records:
        progress.wrote(record)
    return records


def run_stages_alone(
    stages: Sequence[str],
    date: dt.date | None,
    scenario: str | None,
    recipes: list[str] | None,
    config: str | None,
) -> str:
    """The body of a flow that is some stages of one logical date; what it says when it is done."""
    request = Request.open(config, scenario, recipes)
    day = request.logical_date(date, scheduled_time())
    with holding(request.house, day):
        records = [run_stage(stage, day, scenario, list(request.lines), config) for stage in stages]
    return f"{' and '.join(stages)} of {day}: {sum(map(len, records))} partitions"


@task(name="day", task_run_name="{day}", **_RETRIED)
def run_whole_day(day: dt.date, scenario: str | None, lines: list[str], config: str | None) -> int:
    """Run all stages of a day; the number of partitions that they wrote or found written."""
    with logs.scrubbed():
        request = Request.open(config, scenario, lines)
        return len(run_day(request.house, day, request.lines, progress.wrote))
