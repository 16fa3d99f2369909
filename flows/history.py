"""Keeping Prefect's history of embedded runs true: nothing left running, nothing left unsent.

Prefect writes what it knows of task runs late, through two queues: one in this process, one in its API.
An API that is stopped at once loses most of it, and a process that is killed leaves its run ``Running``.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

log = logging.getLogger("funnelcast.embedded")


def reap(client: SyncPrefectClient) -> int:
    """Set flow runs left unfinished by killed processes to ``Crashed``; the number of them."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    unfinished = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished)))
    runs = client.read_flow_runs(flow_run_filter=wanted, limit=200)
    for run in runs:
        client.set_flow_run_state(run.id, Crashed(message="The process of this run was killed."), force=True)
        log.info("an earlier run was killed and is now recorded as Crashed: %s", run.name)
    return len(runs)


def flush(timeout: float = 20.0) -> None:
    """Send the events that this process still holds, task runs among them; what cannot be sent is dropped.

    Prefect would send them when the interpreter exits, to an API that has gone, and wait minutes for it.
    """
    from prefect.events.worker import EventsWorker

    workers = list(EventsWorker._instances.values())  # type: ignore[misc]
    done = EventsWorker.drain_all(timeout=timeout, at_exit=False)
    if isinstance(done, tuple) and done.not_done:  # type: ignore[attr-defined]
        log.warning("Prefect's history of this run is incomplete: its API did not answer")
        for worker in workers:
            with suppress(Empty):
                while True:
                    worker._queue.get_nowait()


def drain(client: SyncPrefectClient, mark: str, timeout: float = 30.0) -> None:
    """Wait until the API has written every task run with the tag ``mark``.

    Task runs reach the database through a queue; a child stopped at once loses most of them.
    """
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterTags

    wanted = TaskRunFilter(tags=TaskRunFilterTags(all_=[mark]))
    end, last, calm = time.monotonic() + timeout, (-1, -1), 0
    while calm < 3 and time.monotonic() < end:
        runs = offset = 0
        final = 0
        while page := client.read_task_runs(task_run_filter=wanted, limit=200, offset=offset):
            offset += len(page)
            runs += len(page)
            final += sum(run.state is not None and run.state.is_final() for run in page)
        calm = calm + 1 if (runs, final) == last and runs == final else 0
        last = (runs, final)
        time.sleep(0.25)
