"""Random histories of thousands of keys against a reference in plain Python, on every engine.

Instants lie on a coarse grid around a change of clocks, and one microsecond off it, so that ties, edges of
visibility and edges of age are common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.as_of_ready import as_of_ready
from features.engine import Limits
from features.errors import AmbiguousHistory
from features.point_in_time import pit_join

#: Berlin goes from 02:00 to 03:00 at this instant.
T0 = datetime(2026, 3, 29, 1)
US, HOUR = timedelta(microseconds=1), timedelta(hours=1)
Key: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Version:
    key: Key
    event: datetime | None
    arrival: datetime | None
    value: int | None


def known_at(history: Sequence[Version], key: Key, at: datetime, max_age: timedelta | None) -> int | None:
    """The rule, word for word, one row at a time."""
    if None in key:
        return None
    visible = [
        (version.event, version.arrival, version.value)
        for version in history
        if version.key == key
        and version.event is not None
        and version.arrival is not None
        and version.event <= at
        and version.arrival <= at
    ]
    if not visible:
        return None
    event, _, value = max(visible, key=lambda version: version[:2])
    return value if max_age is None or at - event <= max_age else None


@dataclass(frozen=True)
class World:
    """A history, rows that ask, and what shapes them."""

    history: list[Version]
    rows: list[tuple[Key, datetime]]
    max_age: timedelta | None
    kinds: tuple[pl.DataType, ...]
    delay: timedelta | None

    @property
    def versions(self) -> pl.LazyFrame:
        parts = {f"k{place}": kind for place, kind in enumerate(self.kinds)}
        schema = {**parts, "event": pl.Datetime("us"), "arrival": pl.Datetime("us"), "value": pl.Int64}
        rows = [(*v.key, v.event, v.arrival, v.value) for v in self.history]
        return pl.LazyFrame(rows, schema=schema, orient="row")

    @property
    def asking(self) -> pl.LazyFrame:
        parts = {f"k{place}": kind for place, kind in enumerate(self.kinds)}
        rows = [(*key, at.replace(tzinfo=UTC)) for key, at in self.rows]
        schema = {**parts, "at": pl.Datetime("us", "UTC")}
        zoned = pl.col("at").dt.convert_time_zone("Europe/Berlin")
        return pl.LazyFrame(rows, schema=schema, orient="row").with_columns(zoned)

    @property
    def keys(self) -> list[str]:
        return [f"k{place}" for place in range(len(self.kinds))]

    def ready(self) -> pl.LazyFrame:
        clock = {"arrived_at": "arrival"} if self.delay is None else {"publish_delay": self.delay}
        return as_of_ready(self.versions, keys=self.keys, event_time="event", fields=["value"], **clock)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to 60 keys with up to 6 versions each; 3 rows that ask per key, most of them at an edge."""
    width = draw(st.integers(1, 3))
    kinds = tuple(draw(st.sampled_from([pl.Int64(), pl.Int32(), pl.String()])) for _ in range(width))
    max_age = draw(st.sampled_from([None, timedelta(0), HOUR, 3 * HOUR, 3 * HOUR + US]))
    delay = draw(st.sampled_from([None, None, timedelta(0), HOUR]))
    entities, most = 60 - draw(st.integers(0, 59)), draw(st.integers(0, 6))
    random = Random(draw(st.integers(0, 2**32)))

    def instant() -> datetime:
        return T0 + random.randint(-4, 4) * HOUR + random.choice([-US, 0 * US, 0 * US, US])

    def part(kind: pl.DataType) -> Any:
        number = random.choice([1, 2, 11, 12, 111, *range(200, 206)])
        return str(number) if kind == pl.String() else number

    history: list[Version] = []
    rows: list[tuple[Key, datetime]] = []
    for _ in range(entities):
        key = tuple(None if random.random() < 0.05 else part(kind) for kind in kinds)
        log: list[Version] = []
        for _ in range(random.randint(0, most)):
            event = None if random.random() < 0.05 else instant()
            arrival = None if random.random() < 0.05 else instant()
            if delay is not None:
                arrival = None if event is None else event + delay
            log.append(Version(key, event, arrival, None if random.random() < 0.1 else random.randint(0, 99)))
        edges = [t for v in log for t in (v.event, v.arrival, v.event and v.event + (max_age or HOUR)) if t]
        for _ in range(3):
            at = random.choice(edges) if edges and random.random() < 0.8 else instant()
            rows.append((key, at + random.choice([-US, 0 * US, US])))
        history += log
    rows += [(tuple(part(kind) for kind in kinds), instant()) for _ in range(10)]
    # One value per version, whichever of two equal keys above drew it; and some versions repeat.
    settled = {(v.key, v.event, v.arrival): v for v in history}
    history = [*settled.values(), *random.sample(list(settled.values()), len(settled) // 4)]
    random.shuffle(history)
    random.shuffle(rows)
    return World(history, rows, max_age, kinds, delay)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_every_row_gets_what_the_rule_says_word_for_word(
    engine: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    limits = Limits(memory="200MB", threads=1, scratch=tmp_path_factory.mktemp("duckdb"))

    @settings(max_examples=60, deadline=None)
    @given(worlds())
    def check(world: World) -> None:
        joined = pit_join(
            world.asking,
            world.ready(),
            keys=world.keys,
            at="at",
            fields=["value"],
            max_age=world.max_age,
            engine=engine,  # type: ignore[arg-type]
            limits=limits,
        ).collect()
        assert joined.drop("value").equals(world.asking.collect())
        by_key: dict[Key, list[Version]] = {}
        for version in world.history:
            by_key.setdefault(version.key, []).append(version)
        wanted = [known_at(by_key.get(key, []), key, at, world.max_age) for key, at in world.rows]
        assert joined["value"].to_list() == wanted

    check()


@settings(max_examples=60, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_a_history_changes_nothing(world: World, random: Any) -> None:
    ready = world.ready().collect()
    shuffled = random.sample(world.history, len(world.history))
    again = World(shuffled, world.rows, world.max_age, world.kinds, world.delay)
    assert again.ready().collect().equals(ready)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_history_ready_for_joins_is_what_could_be_seen_and_when_it_changed(world: World) -> None:
    found = world.ready().collect()
    assert found.equals(found.sort(*world.keys, "visible_from"))
    by_key: dict[Key, list[Version]] = {}
    for version in world.history:
        if None not in (*version.key, version.event, version.arrival):
            by_key.setdefault(version.key, []).append(version)
    wanted = []
    for key, log in by_key.items():
        shown: Any = None
        for at in sorted({max(v.event, v.arrival) for v in log}):  # type: ignore[type-var]
            seen = [v for v in log if max(v.event, v.arrival) <= at]  # type: ignore[type-var]
            last = max(seen, key=lambda v: (v.event, v.arrival))
            if last != shown:
                wanted.append((*key, at, last.event, last.value))
            shown = last
    assert sorted(found.rows(), key=str) == sorted(wanted, key=str)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.sampled_from([1, 2, None])),
        max_size=8,
    )
)
def test_a_history_is_refused_exactly_if_one_version_has_two_values(
    rows: list[tuple[int, int, int, int | None]],
) -> None:
    history = [Version((key,), T0 + event * HOUR, T0 + arrival * HOUR, v) for key, event, arrival, v in rows]
    ready = World(history, [], None, (pl.Int64(),), None).ready()
    if len({row[:3] for row in rows}) == len(set(rows)):
        ready.collect()
    else:
        with pytest.raises(AmbiguousHistory):
            ready.collect()


def test_berlin_changes_its_clock_where_the_random_instants_lie() -> None:
    zone = ZoneInfo("Europe/Berlin")
    before, after = ((T0 + d).replace(tzinfo=UTC).astimezone(zone) for d in (-US, 0 * US))
    assert (before.hour, after.hour) == (1, 3)
