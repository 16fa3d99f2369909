"""Stage "publish": hold the staged scores to their promises, then one commit, then the catalogue."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date

from features.errors import MissingStage
from features.schemas import scores
from flows.catalog import rebuild
from flows.catalog_views import catalog_views
from flows.house import House
from flows.stages.promise import hold
from flows.stages.record import StageRecord
from flows.stages.score import plan_scores, staged
from flows.stages.settle import finished, live, now, repeated

STAGE = "publish"


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Publish the next day's scores of all lines in one commit; the old day is read until then.

    Raises:
        MissingStage: a line's scores are not staged.
        BrokenPromise: a check selected offenders; nothing was published.
    """
    plans = [replace(plan_scores(house, day, name), stage=STAGE) for name in lines]
    done = {plan.part: found for plan in plans if (found := live(house.store, plan)) is not None}
    todo = [plan for plan in plans if plan.part not in done]
    records = [repeated(plan, done[plan.part]) for plan in plans if plan.part in done]
    if todo:
        started, clock = now(), time.perf_counter()
        waiting = []
        for plan in todo:
            written = staged(house, plan)
            if written is None:
                raise MissingStage(
                    f"scores {plan.part} of {plan.day}", "not staged", f"run the stage score of {day} first"
                )
            waiting.append(written)
        hold(house, scores(house.scenario), waiting)
        committed = house.store.commit(waiting)
        seconds = (time.perf_counter() - clock) / len(todo)
        records += [finished(plan, g, started, seconds) for plan, g in zip(todo, committed, strict=True)]
    return tuple(records)


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the scores of some line are not live."""
    return any(live(house.store, plan_scores(house, day, name)) is None for name in lines)


def refresh_catalogue(house: House) -> None:
    """Show what is live to analysts; nothing is written if they see it already."""
    rebuild(house.store, catalog_views(house.scenario))
