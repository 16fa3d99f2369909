"""Settle a partition as its plan says, once its rows keep their contract and the table its promises."""

from __future__ import annotations

import time
from collections.abc import Callable

from flows.house import House
from flows.stages.promise import hold
from flows.stages.quarantine import sift
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan, finished, live, now, repeated, stage


def keep(house: House, plan: Plan, build: Callable[[], Built]) -> StageRecord:
    """Write, hold and commit the planned partition unless it is live already.

    Raises:
        BrokenPromise: a rule or a check found offenders; what was live stays.
        TooManyQuarantined: more rows are refused than the contract allows.
    """
    found = live(house.store, plan)
    if found is not None:
        return repeated(plan, found)
    started, clock = now(), time.perf_counter()
    built = build()
    staged = sift(house, plan, built, stage(house.store, plan, built))
    hold(house, plan.table, [staged])
    (committed,) = house.store.commit(staged)
    return finished(plan, committed, started, time.perf_counter() - clock)
