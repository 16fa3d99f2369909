"""Read and view several days at once, before a backfill takes its days in order.

What a day's events and views hold depends on what had arrived, not on any model, so they need not wait for
the days before. Three things keep an order, and each is a chain of its own here: deliveries of a source that
may repeat rows of the day before; snapshots of a view that goes on from its last one; and a day itself, read
before it is rolled up, rolled up before it is viewed. What is made is made by the stages' own functions,
under the same keys, so the days that then come in order find it, byte for byte as they would have made it;
only the ledger tells of it as of what was there already, without its seconds.

Threads serve: DuckDB, Polars and Delta do the work outside the interpreter's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial

from features.errors import FunnelcastError
from features.scenario import Rollup
from features.view import LastEvents, View
from flows import progress
from flows.house import House
from flows.stages import read, view
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.rollups import roll_up
from flows.surroundings import refuse_unwritable, telling

log = logging.getLogger("funnelcast.day")

#: A day, and what it takes to be a step further; steps of one chain follow each other.
Step = tuple[date, Callable[[], Iterable[StageRecord]]]
Chain = Sequence[Step]


def ahead(house: House, days: Sequence[date], workers: int) -> tuple[date, ...]:
    """Read and view some days, ``workers`` at a time; they share the settings' memory and threads.

    A day whose files cannot be read, and all after it, are left to their turn, which says what is wrong.

    Args:
        house: where.
        days: oldest first.
        workers: chains that go on at once.

    Returns:
        The days that are read and viewed now.

    Raises:
        Busy: another process runs.
        FunnelcastError: the machine denied room, memory or rights.
    """
    refuse_unwritable(house)
    with house.store.lease("run"), telling(house, f"{days[0]} to {days[-1]}"):
        agreed = _agreed(house, days)
        own = house.shared(workers)
        with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
            readable = _done(pool, agreed, _reads(own, agreed))
            rolled = _done(pool, readable, _rollups(own, readable))
            return _done(pool, rolled, _snapshots(own, rolled))


def _agreed(house: House, days: Sequence[date]) -> list[date]:
    """The days up to the first whose files are missing or not as agreed."""
    found: list[date] = []
    for day in days:
        try:
            read.check(house, day)
        except FunnelcastError as error:
            log.debug("%s is left to its turn: %s", day, error)
            break
        found.append(day)
    return found


def _done(pool: ThreadPoolExecutor, days: Sequence[date], chains: Iterable[Chain]) -> tuple[date, ...]:
    """Follow chains at once; the days before the first that could not go on."""
    stopped = [day for day in pool.map(_follow, list(chains)) if day is not None]
    return tuple(day for day in days if day < min(stopped, default=date.max))


def _follow(chain: Chain) -> date | None:
    """Take the steps of a chain; the day of the one that failed in our words, if one did."""
    for day, step in chain:
        try:
            for record in step():
                progress.wrote(record)
        except FunnelcastError as error:
            log.debug("%s is left to its turn: %s", day, error)
            return day
    return None


def _reads(house: House, days: Sequence[date]) -> Iterator[Chain]:
    """Every source by itself; days in order where a delivery may repeat rows of the one before."""
    for source in house.scenario.sources:
        steps = [(day, partial(read.read, house, source, day)) for day in days]
        yield from [steps] if source.late_days else [[step] for step in steps]


def _rollups(house: House, days: Sequence[date]) -> Iterator[Chain]:
    """Every roll-up of every day by itself, parts of earlier days that are to be made anew among them."""
    for declared in house.scenario.rollups:
        old = {part: day for day in reversed(days) for part in view.outdated(house, declared, day)}
        for part, day in {**old, **{day: day for day in days}}.items():
            yield [(day, partial(_roll_up, house, declared, part))]


def _roll_up(house: House, declared: Rollup, day: date) -> tuple[StageRecord]:
    return (keep(house, view.plan_rollup(house, declared, day), lambda: roll_up(house, declared, day)),)


def _snapshots(house: House, days: Sequence[date]) -> Iterator[Chain]:
    """Every snapshot by itself; those of a view that goes on from its last one in order."""
    steps: dict[tuple[str, date], Step] = {}
    in_order: dict[str, list[Step]] = {}
    for day in days:
        for declared, valid in view.wanted(house, day):
            if (declared.name, valid) in steps:
                continue
            step = steps[declared.name, valid] = (day, partial(_snapshot, house, declared, valid))
            if isinstance(declared.source, LastEvents):
                in_order.setdefault(declared.name, []).append(step)
            else:
                yield [step]
    yield from in_order.values()


def _snapshot(house: House, declared: View, valid: date) -> tuple[StageRecord]:
    return (view.make_snapshot(house, declared, valid),)
