"""What training rows see of a view that is fresh by event: its values as of each impression."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import polars as pl

from features import histories, impression_shards
from features.at_impressions import Question, days_of_events
from features.generation import Generation
from features.impression_shards import ImpressionShards
from features.schemas import events, rollup
from features.view import History, View, Windows
from flows.house import House
from flows.stages.view import between, rollup_named

_ONE = timedelta(days=1)
#: Of impressions, ``impression_id`` and the features of a view.
Values: TypeAlias = Callable[[pl.LazyFrame], pl.DataFrame]


def sources_of(house: House, declared: View, day: date) -> dict[str, Generation]:
    """The generations that the view's values at impressions of ``day`` follow from, by table and day."""
    if isinstance(declared.source, History):
        changes = events(house.scenario.source(declared.source.source))
        return between(house, changes, histories.days_of_changes(declared, day)[0], day + _ONE)
    source = _windows(declared)
    found: dict[str, Generation] = {}
    for arrived in days_of_events(source, house.scenario, day):
        for log in (house.scenario.impressions, *house.scenario.events):
            found |= between(house, events(log), arrived, arrived + _ONE)
    counted = rollup_named(house, source.rollup)
    if counted is not None:
        found |= between(house, rollup(counted, house.scenario), day - max(source.days) * _ONE, day)
    return found


def values_of(house: House, declared: View, day: date) -> Values:
    """Answers ``impression_id`` and the view's features for impressions of ``day``, in their order.

    What is the same for every block of impressions is found once: the history ready to be asked, and which
    files hold the events. Events are read for every block anew, see ``with_values`` for many of them.

    Args:
        house: the warehouse, with the events and the roll-ups of the days before.
        declared: a view of windows or of a history.
        day: the logical day.

    Returns:
        A function of impressions with ``impression_id``, ``exposed_at`` and the view's keys.
    """
    if isinstance(declared.source, History):
        changes = house.scenario.source(declared.source.source)
        rows = house.store.scan(events(changes), _arrived(sources_of(house, declared, day), changes.table))
        ready = histories.versions(declared, changes, rows).collect().lazy()
        return partial(histories.at_impressions, declared, ready)
    question, told, parts = _question(house, declared, day)

    def values(impressions: pl.LazyFrame) -> pl.DataFrame:
        asked = impressions.select("impression_id", "exposed_at", *declared.keys).collect()
        return _named(asked, question.answer(asked, told, parts))

    return values


@contextmanager
def with_values(
    house: House, day: date, blocks: Iterable[pl.DataFrame]
) -> Iterator[Iterator[tuple[pl.DataFrame, dict[str, pl.DataFrame]]]]:
    """Blocks of impressions of a day, each with the values of the views that are fresh by event.

    The events of a view of windows are read once. With more of them than a shard holds, blocks and values
    lie on disk until the context ends, and a block and a shard are in memory at a time.

    Args:
        house: the warehouse.
        day: the logical day.
        blocks: as ``values_of`` asks for them, all of the day.

    Returns:
        The blocks, in their order, with a frame like that of ``values_of`` by name of the view.
    """
    scratch = house.limits.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    at_once: dict[str, Values] = {}
    sharded: dict[str, ImpressionShards] = {}
    with TemporaryDirectory(dir=scratch, prefix="impressions-") as folder:
        for declared in (one for one in house.scenario.views if one.freshness == "event"):
            shards = _shards(house, declared, day)
            if shards == 1:
                at_once[declared.name] = values_of(house, declared, day)
            else:
                own = Path(folder) / declared.name
                asked = ImpressionShards(*_question(house, declared, day), folder=own, shards=shards)
                sharded[declared.name] = asked
        if sharded:
            blocks = _asked(blocks, sharded.values(), Path(folder))
        yield _told(blocks, at_once, sharded)


def _asked(
    blocks: Iterable[pl.DataFrame], sharded: Collection[ImpressionShards], folder: Path
) -> Iterator[pl.DataFrame]:
    """Ask everybody of all blocks, which go to disk, and have it answered; then the same blocks."""
    files = []
    for number, block in enumerate(blocks):
        files.append(folder / f"{number:05}.parquet")
        block.write_parquet(files[-1], compression="lz4", statistics=False)
        for own in sharded:
            own.ask(block)
    for own in sharded:
        own.answer()
    return (pl.read_parquet(file) for file in files)


def _told(
    blocks: Iterable[pl.DataFrame], at_once: Mapping[str, Values], sharded: Mapping[str, ImpressionShards]
) -> Iterator[tuple[pl.DataFrame, dict[str, pl.DataFrame]]]:
    for number, block in enumerate(blocks):
        found = {name: values(block.lazy()) for name, values in at_once.items()}
        yield block, found | {name: _named(block, own.told(number)) for name, own in sharded.items()}


def _named(impressions: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    return impressions.select("impression_id").hstack(values)


def _shards(house: House, declared: View, day: date) -> int:
    """How many shards the view's impressions, events and parts make; a history is asked in one."""
    if isinstance(declared.source, History):
        return 1
    sources = sources_of(house, declared, day)
    table = events(house.scenario.impressions)
    # Most impressions of a day, and some of the day before, arrive on it; they are asked, and are events too.
    asked = sum(generation.rows for name, generation in sources.items() if name == f"{table.name} {day}")
    rows = asked + sum(generation.rows for generation in sources.values())
    return -(-rows // impression_shards.ROWS) or 1


def _question(house: House, declared: View, day: date) -> tuple[Question, pl.LazyFrame, pl.LazyFrame | None]:
    """What a view of windows is asked on a day, and of which events and parts."""
    scenario, store, source = house.scenario, house.store, _windows(declared)
    sources = sources_of(house, declared, day)
    logs = {
        log.name: store.scan(events(log), _arrived(sources, log.table))
        for log in (scenario.impressions, *scenario.events)
    }
    counted, hourly = rollup_named(house, source.rollup), rollup_named(house, source.hourly)
    question = Question(view=declared, scenario=scenario, day=day, rollup=counted, hourly=hourly)
    parts = None
    if counted is not None:
        parts = store.scan(rollup(counted, scenario), _arrived(sources, counted.table))
    return question, question.events(logs), parts


def _arrived(sources: Mapping[str, Generation], table: str) -> list[date]:
    return [g.partition.day for name, g in sources.items() if name.startswith(f"{table} ")]


def _windows(declared: View) -> Windows:
    if not isinstance(declared.source, Windows):
        raise TypeError(f"View {declared.name!r} has neither windows nor a history.")
    return declared.source
