"""Attribution in shards against the same in one, on random logs (``attribution_worlds``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from attribution_by_hand import Done, Shown, attribute_by_hand
from attribution_frames import events_frame, impressions_frame, reversals_frame
from attribution_worlds import BACK, MOMENTS, SECOND, SEEDS, SKEW, T0, TREE, World, many
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features import attribution_shards
from features.attribution_shards import attribute_in_shards
from features.labels import Attribution, attribute


def frames(world: World) -> dict[str, Any]:
    """What both are asked with."""
    return {
        "impressions": impressions_frame(world.impressions),
        "events": {name: events_frame(rows) for name, rows in world.logs.items()},
        "funnel": TREE,
        "skew": SKEW,
        "reversals": {name: reversals_frame(rows) for name, rows in world.reversals.items()},
    }


def rows(told: Attribution) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every frame of an answer, sorted, by name."""
    yield "labels", told.labels.sort("impression_id").collect()
    parts: Mapping[str, Mapping[str, pl.LazyFrame]] = {
        "owners": told.owners, "orphans": told.orphans, "idle": told.idle,
    }  # fmt: skip
    for name, some in parts.items():
        for objective, found in some.items():
            yield f"{name} of {objective}", found.sort("event_id").collect()


@settings(max_examples=2, deadline=None)
@given(SEEDS, st.none() | MOMENTS)
def test_shards_say_row_for_row_what_one_says(seed: int, as_of: datetime | None) -> None:
    """Users without an id, foreign ids, copies that tell another user and reversals of nothing included."""
    world = many(seed, 40)
    world.contradict(Random(seed))
    expected = dict(rows(attribute(**frames(world), as_of=as_of)))
    assert set(expected) >= {"labels", *(f"idle of {name}" for name in BACK)}
    for shards in (1, 2, 7):
        with TemporaryDirectory() as folder:
            told = attribute_in_shards(**frames(world), as_of=as_of, folder=Path(folder), shards=shards)
            found = dict(rows(told))
        assert found.keys() == expected.keys()
        for name, frame in found.items():
            assert_frame_equal(frame, expected[name])


def test_the_shards_of_a_log_share_the_work_and_leave_only_the_answer(tmp_path: Path) -> None:
    """Every shard owns something, or the comparison above would say little."""
    attribute_in_shards(**frames(many(3, 120)), folder=tmp_path, shards=7)
    owners = sorted((tmp_path / "owners-order").iterdir())
    assert len(owners) == 7
    assert min(pl.read_parquet(file).height for file in owners) > 3
    kinds = {path.name.split("-")[0] for path in tmp_path.iterdir()}
    assert kinds == {"labels", "owners", "orphans", "idle"}


def test_small_logs_are_one_shard_in_memory_and_large_ones_as_many_as_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = many(5, 30)
    attribute_in_shards(**frames(world), folder=tmp_path)
    assert not list(tmp_path.iterdir())
    count = sum(map(len, [*world.logs.values(), *world.reversals.values()]))
    monkeypatch.setattr(attribution_shards, "EVENTS", count // 4)
    attribute_in_shards(**frames(world), folder=tmp_path)
    assert len(list((tmp_path / "labels").iterdir())) == 5


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_a_copy_of_an_impression_that_tells_another_user_owns_nothing(shards: int, tmp_path: Path) -> None:
    """It was known later, so nobody else was shown anything, whoever else is asked for."""
    world = World([Shown("i", 1, "a", T0), Shown("i", 2, "a", T0, T0 + SECOND)])
    world.logs["view"] = [Done("v", None, 2, "a", T0 + SECOND)]
    found = dict(rows(attribute_in_shards(**frames(world), folder=tmp_path, shards=shards)))
    hand = attribute_by_hand(world.impressions, world.logs, TREE, SKEW, world.reversals)
    assert hand.owner["view"] == {"v": None}
    assert found["owners of view"].is_empty()
    assert list(found["orphans of view"]["event_id"]) == ["v"]


def test_nothing_is_no_error_in_shards_either(tmp_path: Path) -> None:
    told = attribute_in_shards(**frames(World()), folder=tmp_path, shards=2)
    expected = dict(rows(attribute(**frames(World()))))
    for name, found in rows(told):
        assert_frame_equal(found, expected[name])
