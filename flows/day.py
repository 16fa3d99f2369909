"""One logical date through all stages, without an orchestrator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import ModuleType

from features.calendar import day_end, day_of
from features.errors import BlockedDay, DiskFull, FunnelcastError, MissingStage, UsageError
from flows.house import House
from flows.ledger import failed, finish
from flows.stages import calibrate, gate, publish, read, sample, score, train, validate, view
from flows.stages.record import StageRecord
from flows.stages.unlearned import is_empty
from flows.surroundings import refuse_unwritable, telling

log = logging.getLogger("funnelcast.day")


@dataclass(frozen=True)
class Stage:
    """A step of the day.

    Attributes:
        name: what it is called in logs, ledger and orchestrator.
        run: does what is pending and tells of every partition.
        pending: whether there is anything to do.
    """

    name: str
    run: Callable[[House, date, tuple[str, ...]], tuple[StageRecord, ...]]
    pending: Callable[[House, date, tuple[str, ...]], bool]


def _run(module: ModuleType) -> Callable[[House, date, tuple[str, ...]], tuple[StageRecord, ...]]:
    """A stage whose trouble with the machine is told in our words."""

    def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
        with telling(house, f"{module.STAGE} of {day}"):
            records: tuple[StageRecord, ...] = module.run(house, day, lines)
            return records

    return run


def _taught(module: ModuleType) -> Stage:
    """A stage with nothing to do on a day without impressions: what is published stays."""
    run = _run(module)
    return Stage(
        module.STAGE,
        lambda house, day, lines: () if is_empty(house, day) else run(house, day, lines),
        lambda house, day, lines: not is_empty(house, day) and module.pending(house, day, lines),
    )


STAGES = (
    *(Stage(module.STAGE, _run(module), module.pending) for module in (read, view, sample, validate)),
    *(_taught(module) for module in (train, gate, calibrate, score, publish)),
)


def pending(house: House, day: date, lines: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the stages still to run, in order; none if the day is finished.

    Nothing is computed: every stage compares what is live with what its inputs ask for. After the first
    stage that has work to do, all later ones have.
    """
    for place, stage in enumerate(STAGES):
        try:
            waiting = stage.pending(house, day, lines)
        except MissingStage:
            waiting = True
        if waiting:
            return tuple(later.name for later in STAGES[place:])
    return ()


def check_day(house: House, day: date) -> None:
    """Refuse a day that is not over yet in the scenario's zone.

    Raises:
        UsageError: the day's logs cannot be complete.
    """
    moment = datetime.now(UTC).replace(tzinfo=None)
    if day_end(day, house.scenario.zone) > moment:
        today = day_of(moment, house.scenario.zone)
        raise UsageError(
            f"date {day}",
            f"not over yet, it is {today} in {house.scenario.zone}",
            "name a day that is over, such as the one before",
        )


def run_day(
    house: House,
    day: date,
    lines: tuple[str, ...],
    on_record: Callable[[StageRecord], None] | None = None,
) -> tuple[StageRecord, ...]:
    """Run all stages of a day; a finished day changes nothing.

    Args:
        house: where to work.
        day: logical date.
        lines: recipes to train and score.
        on_record: told of every partition as soon as it is settled.

    Raises:
        FunnelcastError: what was committed before stays, nothing of the failed stage is live.
    """
    check_day(house, day)
    with holding(house, day):
        records: list[StageRecord] = []
        for stage in STAGES:
            done = stage.run(house, day, lines)
            records += done
            for record in done if on_record else ():
                on_record(record)  # type: ignore[misc]
        close(house, day, tuple(records))
    return tuple(records)


def close(house: House, day: date, records: tuple[StageRecord, ...]) -> None:
    """Enter a run into the ledger and show its tables to analysts; repeated, it changes nothing."""
    with telling(house, f"close of {day}"):
        finish(house, day, records)
        publish.refresh_catalogue(house)


@contextmanager
def holding(house: House, day: date) -> Iterator[None]:
    """Hold the scenario's warehouse for a run; an error of ours, or an end by signal, goes into the ledger.

    One run at a time: days are a chain, so two of them at once could only wait for each other.

    Raises:
        Busy: another process runs; it is named.
        BadWarehouse: it cannot be written.
    """
    refuse_unwritable(house)
    with house.store.lease("run"):
        try:
            yield
        except DiskFull:  # nor is there room for this
            raise
        except FunnelcastError as error:
            failed(house, day, error)
            if isinstance(error, BlockedDay):  # its figures are there to be asked for
                publish.refresh_catalogue(house)
            raise
        except Exception:  # a fault of ours: the command line shows it
            raise
        except BaseException as error:  # Ctrl-C, SIGTERM, the orchestrator's signal: no exceptions of a run
            failed(house, day, error, state="interrupted")
            raise


def available_days(house: House) -> tuple[date, ...]:
    """Days for which impressions were delivered, oldest first."""
    pattern = house.scenario.impressions.files
    before = pattern.partition("{day}")[0]
    found = set()
    for path in house.logs.glob(pattern.format(day="*")):
        relative = path.relative_to(house.logs).as_posix()
        try:
            found.add(date.fromisoformat(relative[len(before) : len(before) + 10]))
        except ValueError:
            log.warning("not a day: %s", relative)
    return tuple(sorted(found))
