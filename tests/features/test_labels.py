"""Random logs (``attribution_worlds``) against the reference by hand, and what must hold of every build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import polars as pl
from attribution_by_hand import Back, Done, Shown, attribute_by_hand, heard
from attribution_frames import Answer, events_frame, impressions_frame, reversals_frame
from attribution_worlds import BACK, MOMENTS, SECOND, SEEDS, SKEW, T0, TREE, Taste, World, many
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.labels import attribute, spaces


def compare(world: World, as_of: datetime | None = None) -> None:
    found = world.ask(as_of)
    hand = attribute_by_hand(world.impressions, world.logs, TREE, SKEW, world.reversals, as_of)
    assert set(found.labels) == hand.impressions
    assert found.idle == {name: hand.idle[name] for name in BACK}
    for o in TREE:
        assert found.owner[o.name] == hand.owner[o.name]
        for key, row in found.labels.items():
            expected = {
                o.label: int(key in hand.first[o.name]),
                o.count: hand.count[o.name].get(key, 0),
                o.occurred: hand.first[o.name].get(key),
                o.known: hand.known[o.name].get(key),
            }
            if o.value:
                expected[o.total] = hand.total[o.name].get(key, 0)
            assert {name: row[name] for name in expected} == expected


def test_the_random_logs_hold_what_they_are_for() -> None:
    """The comparisons below would be empty otherwise."""
    world = many(1, 250)
    found = world.ask()
    for o in TREE:
        owners = list(found.owner[o.name].values())
        labels = [row[o.label] for row in found.labels.values()]
        assert 100 < owners.count(None) < len(owners) - 100
        assert sum(map(int, map(str, labels))) > (30 if o.name == "order" else 100)
        assert any(int(str(row[o.count])) > 1 for row in found.labels.values())
        assert len(world.logs[o.name]) > len(owners) + 50
    raw = attribute_by_hand(world.impressions, world.logs, TREE, SKEW)
    for name in BACK:
        assert sum(raw.count[name].values()) > 20 + sum(
            int(str(row[TREE[name].count])) for row in found.labels.values()
        )
    assert sum(int(str(row["v_order"])) for row in found.labels.values()) < sum(raw.total["order"].values())


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.none() | MOMENTS)
def test_random_logs_are_attributed_as_by_hand_as_of_any_instant(seed: int, as_of: datetime | None) -> None:
    compare(many(seed, 300), as_of)


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.none() | MOMENTS)
def test_one_small_log_is_attributed_as_by_hand(seed: int, as_of: datetime | None) -> None:
    """As above, so that a failure shrinks to one world."""
    compare(many(seed, 1), as_of)


@settings(max_examples=3, deadline=None)
@given(SEEDS, st.none() | MOMENTS)
def test_what_holds_of_every_build(seed: int, as_of: datetime | None) -> None:
    world = many(seed, 100)
    found = world.ask(as_of)

    def known(rows: Sequence[Shown] | Sequence[Done]) -> set[str]:
        return {row.id for row in rows if as_of is None or heard(row) < as_of}

    assert set(found.labels) == known(world.impressions)
    for o in TREE:
        # Attributed + orphans = distinct events; each is told of once, so it owns at most one impression.
        assert set(found.owner[o.name]) == known(world.logs[o.name])
        assert {key for key in found.owner[o.name].values() if key is not None} <= set(found.labels)
        counted = sum(int(str(row[o.count])) for row in found.labels.values())
        assert counted <= sum(owner is not None for owner in found.owner[o.name].values())
        for row in found.labels.values():
            assert row[o.label] == (int(str(row[o.count])) > 0)
            if o.given is not None:
                parent = TREE[o.given]
                assert row[o.label] <= row[parent.label]  # type: ignore[operator]
                if row[o.label]:
                    assert row[parent.occurred] <= row[o.occurred]  # type: ignore[operator]
                    assert row[parent.known] <= row[o.known]  # type: ignore[operator]


@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_neither_the_order_of_the_rows_nor_their_files_change_anything(seed: int) -> None:
    """Copies with other content included: who wins is a matter of content, not of place."""
    chance, world = Random(seed), many(seed, 40)
    world.contradict(chance)

    def cut(frame: pl.LazyFrame) -> pl.LazyFrame:
        whole = frame.collect().sample(fraction=1, shuffle=True, seed=chance.randint(0, 2**30))
        size = chance.randint(1, 1 + whole.height)
        return pl.concat([part.lazy() for part in whole.iter_slices(size)] or [whole.lazy()])

    impressions = impressions_frame(world.impressions)
    logs = {name: events_frame(rows) for name, rows in world.logs.items()}
    backs = {name: reversals_frame(rows) for name, rows in world.reversals.items()}
    straight = attribute(impressions, logs, TREE, skew=SKEW, reversals=backs)
    shuffled = attribute(
        cut(impressions),
        {name: cut(frame) for name, frame in logs.items()},
        TREE,
        skew=SKEW,
        reversals={name: cut(frame) for name, frame in backs.items()},
    )
    assert_frame_equal(*(told.labels.sort("impression_id").collect() for told in (straight, shuffled)))
    for name in TREE.names:
        pairs = [(told.owners[name], told.orphans[name]) for told in (straight, shuffled)]
        for one, other in zip(*pairs, strict=True):
            assert_frame_equal(one.sort("event_id").collect(), other.sort("event_id").collect())


@settings(max_examples=3, deadline=None)
@given(SEEDS, MOMENTS)
def test_labels_as_of_an_instant_do_not_depend_on_what_came_to_be_known_later(
    seed: int, as_of: datetime
) -> None:
    world = many(seed, 60)
    then = World(
        [row for row in world.impressions if heard(row) < as_of],
        {name: [row for row in rows if heard(row) < as_of] for name, rows in world.logs.items()},
        {name: [row for row in rows if heard(row) < as_of] for name, rows in world.reversals.items()},
    )
    assert world.ask(as_of) == then.ask()


def fell(before: Answer, after: Answer) -> dict[str, set[str]]:
    """Per objective, impressions whose label went from 1 to 0."""
    return {
        o.name: {
            key for key, row in before.labels.items() if row[o.label] == 1 and after.labels[key][o.label] == 0
        }
        for o in TREE
    }


def versions(world: World, moments: Sequence[datetime], skew: timedelta) -> list[tuple[Answer, Answer]]:
    answers = [world.ask(moment, skew) for moment in sorted(moments)]
    return list(pairwise(answers))


@settings(max_examples=3, deadline=None)
@given(SEEDS, st.sets(MOMENTS, min_size=2, max_size=3))
def test_a_label_of_events_that_name_their_impression_never_falls_without_a_reversal(
    seed: int, moments: set[datetime]
) -> None:
    """However late rows arrive: a further click opens another window and closes none."""
    world = many(seed, 100, Taste(named=1, back=0))
    for name, log in world.logs.items():
        world.logs[name] = [replace(e, impression=e.impression or "nowhere") for e in log]
    for before, after in versions(world, list(moments), SKEW):
        assert not any(fell(before, after).values())


@settings(max_examples=3, deadline=None)
@given(SEEDS, st.sets(MOMENTS, min_size=2, max_size=3))
def test_a_label_never_falls_without_a_reversal_if_touches_are_known_before_what_follows_them(
    seed: int, moments: set[datetime]
) -> None:
    world = many(seed, 100, Taste(late=0, back=0))
    world.logs["order"] = [
        replace(e, arrived=e.at + Random(e.id).randint(0, 9) * SECOND) for e in world.logs["order"]
    ]
    for before, after in versions(world, list(moments), timedelta(0)):
        assert not any(fell(before, after).values())


def test_a_label_falls_only_for_a_reversal_or_for_a_later_touch_that_came_to_be_known() -> None:
    """Events without an id follow the last touch: one that arrives late takes them over."""
    world, falls = many(7, 150), 0
    who = {row.id: (row.user, row.item) for row in reversed(world.impressions)}
    marks = [T0 + n * SECOND for n in (6, 12, 18, 24, 36)]
    for (before, after), since, until in zip(versions(world, marks, SKEW), marks, marks[1:], strict=False):
        arrived = {name: [e for e in rows if since <= heard(e) < until] for name, rows in world.logs.items()}
        shown = {(row.user, row.item) for row in world.impressions if since <= heard(row) < until}
        for name, keys in fell(before, after).items():
            path = [step.name for step in TREE.path(name)]
            for key in keys:
                falls += 1
                undone = any(
                    since <= heard(b) < until and before.owner[step].get(str(b.reverses)) == key
                    for step in path
                    for b in world.reversals.get(step, [])
                )
                touched = who[key] in shown or any(
                    who.get(str(after.owner[step][e.id])) == who[key]
                    for step in path[:-1]
                    for e in arrived[step]
                )
                assert undone or touched
    assert falls > 20


def test_a_funnel_of_any_shape_is_labelled() -> None:
    """By hand: viewed, put into the cart twice, bought one, gave it back; liked and watched beside that."""
    at = [T0 + n * SECOND for n in range(30)]
    world = World(
        [Shown("i", 1, "a", at[0])],
        {
            "view": [Done("v", None, 1, "a", at[1])],
            "like": [Done("l", "i", 1, "a", at[0])],
            "cart": [Done("c", None, 1, "a", at[3]), Done("d", None, 1, "a", at[9])],
            "watch": [Done("w", None, 1, "a", at[2], value=1_500), Done("x", None, 1, "a", at[4], value=500)],
            "order": [Done("o", None, 1, "a", at[15], value=999)],
        },
        {"cart": [], "order": [Back("r", "o", at[20])]},
    )
    row = world.ask(at[20]).labels["i"]
    assert [row[o.label] for o in TREE] == [1, 1, 1, 1, 1]
    assert [row[o.count] for o in TREE] == [1, 1, 2, 2, 1]
    assert (row["v_watch"], row["v_order"], row["order_at"]) == (2_000, 999, at[15])
    later = world.ask(at[21]).labels["i"]
    assert [later[o.label] for o in TREE] == [1, 1, 1, 1, 0]
    assert (later["v_order"], later["order_at"], later["order_known_at"]) == (0, None, None)


def test_no_impression_and_no_event_are_no_error() -> None:
    assert World().ask() == Answer({}, {name: {} for name in TREE.names}, {name: set() for name in BACK})
    lone = World()
    lone.logs["view"].append(Done("v", None, 1, "a", T0))
    assert lone.ask().owner["view"] == {"v": None}


def test_a_space_holds_every_impression_or_those_whose_parent_happened() -> None:
    rows = pl.DataFrame({"y_view": [0, 1, 1], "y_cart": [0, 0, 1]})
    found = rows.select(
        s
        for s in spaces(TREE)
        if s.meta.output_name() in ("in_space_view", "in_space_cart", "in_space_order")
    )
    assert found.to_dict(as_series=False) == {
        "in_space_view": [True, True, True],
        "in_space_cart": [False, True, True],
        "in_space_order": [False, False, True],
    }


def test_the_sum_of_values_is_exact_beyond_doubles() -> None:
    amounts: Mapping[str, int] = {"w": 2**53, "x": 1}
    world = World([Shown("i", 1, "a", T0)])
    world.logs["view"] = [Done("v", "i", 1, "a", T0)]
    world.logs["watch"] = [Done(key, "i", 1, "a", T0, value=value) for key, value in amounts.items()]
    assert world.ask().labels["i"]["v_watch"] == 2**53 + 1
